"""The sections of the report that come from experiments/results/."""

from pathlib import Path

from pipelines.grids.results import RESULTS
from pipelines.grids.schema import grid_names
from pipelines.reporting.ablation import ablation
from pipelines.reporting.cost import cost
from pipelines.reporting.document import Items, Section
from pipelines.reporting.figure5 import figure5
from pipelines.reporting.grid_view import read_view
from pipelines.reporting.learning_curves import learning_curves
from pipelines.reporting.readings import readings
from pipelines.reporting.sensitivity import sensitivity

OWN_SECTION = ("ablation", "ablation-screening", "sensitivity")


def grid_sections(root: Path) -> list[Section]:
    """All sections over grids; empty in a project without experiments/.

    Args:
        root: the project.

    Raises:
        UserError: a grid's file or a record is damaged.
    """
    views = {name: read_view(root, name) for name in grid_names(root)}
    if not set(OWN_SECTION) <= set(views):
        return []
    others = [view for name, view in views.items() if name not in OWN_SECTION]
    sections = [
        ablation(views["ablation"], views["ablation-screening"]),
        figure5(root, list(views.values())),
        sensitivity(views["sensitivity"]),
        readings(others),
        learning_curves([view for name, view in views.items() if name not in ("sensitivity", "readings")]),
        cost(list(views.values())),
    ]
    unknown = sorted(path.name for path in (root / RESULTS).glob("*/") if path.name not in views)
    if unknown:
        texts = [f"`{RESULTS / name}`: no grid of this name in experiments/" for name in unknown]
        sections.append(Section("Records that are not shown", [Items(texts)]))
    return sections
