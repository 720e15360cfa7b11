"""Writes results/report/index.html and report.md from the results in the project; nothing is run for the report.

The page needs no other file and no network.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from msclnet.errors import UserError
from pipelines.experiments.grid import grid_names
from pipelines.report.document import OURS, PAPER, Picture, Section, Table
from pipelines.report.grids import grid_sections
from pipelines.report.published import comparison
from pipelines.report.results import read_own
from pipelines.settings import home

FOLDER = Path("results/report")
TITLE = "MSCLNet: an open implementation, and what it measured"
INTRODUCTION = (
    "Visible-infrared person re-identification by Modality Synergy, Modality Complement and Cascaded Aggregation "
    "(Zhang et al., ECCV 2022). Written by `msclnet report` from the results in this folder."
)


def report(root: Path, *, mlflow_run: str | None = None) -> None:
    """Write the report of a project and log it to MLflow.

    Args:
        root: The project.
        mlflow_run: Id of the MLflow run that gets it as an artifact; None for the runs of the grids.

    Raises:
        UserError: A file of results is damaged, or MLflow has no such run.
    """
    own = read_own(root)
    write(root / FOLDER, [comparison(own), *grid_sections(root)])
    if not own.reports:
        print("nothing was evaluated in this folder yet: run `dvc repro` and write the report again")
    print(f"written: {FOLDER / 'index.html'}, {FOLDER / 'report.md'}")
    log_report(root, mlflow_run=mlflow_run)


def log_report(root: Path, *, mlflow_run: str | None) -> None:
    """Log the written report to MLflow; see `report`."""
    from msclnet.tracking.run import Tracker, grid_runs

    if mlflow_run:
        groups = [Tracker.attach(mlflow_run, home=home(root))]
    else:
        try:
            groups = grid_runs(home=home(root), names=grid_names(root)) if grid_names(root) else []
        except UserError as error:  # the user did not ask for MLflow, and the report is written
            print(f"not logged: {error}", file=sys.stderr)
            return
    for group in groups:
        group.log_artifact(root / FOLDER, "report")
        group.finish("FINISHED")
    if groups:
        print(f"logged to {len(groups)} MLflow run{'s' * (len(groups) > 1)}, artifact folder `report`")


def write(folder: Path, sections: Sequence[Section]) -> None:
    """Write index.html, report.md and the pictures of the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    for section in sections:
        for block in section.blocks:
            if isinstance(block, Picture):
                (folder / f"{block.name}.png").write_bytes(block.png)
    for name, template in (("report.md", "report.md"), ("index.html", "report.html")):
        (folder / name).write_text(render(template, sections), encoding="utf-8")


def render(template: str, sections: Sequence[Section]) -> str:
    """The text of report.md or report.html."""
    environment = Environment(
        loader=PackageLoader("pipelines.report"),
        autoescape=template.endswith(".html"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"inline": inline, "plain": plain, "table": markdown_table}
    return environment.get_template(template).render(
        title=TITLE, introduction=INTRODUCTION, sections=sections
    )


def inline(text: str) -> Markup:
    """HTML of a text in which `...` marks code."""
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    # The deviation goes below its mean: eight such columns do not fit on a page otherwise.
    return Markup(re.sub(r"^([\d.]+) (± [\d.]+)$", r"\1 <small>\2</small>", html))


def plain(text: str) -> str:
    """Markdown of a text in which `...` marks code: AGW* is a name, and a bar does not end a cell."""
    return text.replace("*", r"\*").replace("|", r"\|")


def markdown_table(table: Table) -> str:
    """A table as Markdown; rows of the paper and of this project are bold."""
    cells = table.frame.map(plain)
    strong = cells.index.isin([PAPER, OURS])
    cells[strong] = cells[strong].map(lambda cell: f"**{cell}**" if cell else cell)
    return cells.to_markdown(
        index=False,
        headers=[f"{group} {title}".strip() for group, title, _ in table.columns],
        colalign=["right" if number else "left" for _, _, number in table.columns],
        disable_numparse=True,
    )
