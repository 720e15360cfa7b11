"""`msclnet gallery watch`: the newest images of each camera against the gallery's start, with a report in MLflow."""

import re
from dataclasses import asdict

import pandas as pd

from msclnet.errors import UserError
from msclnet.gallery.drift import FEWEST, LARGEST_P, SMALLEST_EFFECT, Drift, drift
from msclnet.tracking.run import DatasetInfo, Tracker
from pipelines import settings
from pipelines.gallery.work import open_gallery

EXPERIMENT = "galleries"  # of MLflow
DRIFTED = 3  # exit status


def watch(name: str, *, newest: int) -> Drift:
    """Compare, and log table and figures as a run of MLflow's experiment `galleries`.

    Args:
        name: Name, folder or address of the gallery.
        newest: Images of each camera that are compared, 20 or more.

    Raises:
        UserError: There is no such gallery, no camera has enough images, or MLflow does not answer.
    """
    if newest < FEWEST:
        raise UserError(f"--newest {newest}: give {FEWEST} or more")
    gallery = open_gallery(name)
    found = drift(gallery, newest=newest)
    if not found.changes:
        counts = ", ".join(f"{camera} {count}" for camera, count in found.left_out.items()) or "none"
        raise UserError(
            f"{name}: no camera has {3 * FEWEST} images to compare (images by camera: {counts}); add more, or tell the "
            "cameras by --pattern or --table of `msclnet gallery add`"
        )
    tracker = Tracker.start(
        home=settings.home(),
        experiment=EXPERIMENT,
        run_name=name,
        params={"newest": newest, "largest_p": LARGEST_P, "smallest_effect": SMALLEST_EFFECT},
        tags={"gallery": name, "drift": str(found.fires).lower(), "model_digest": gallery.model.digest},
        dataset=DatasetInfo(name, gallery.version, gallery.info().cameras),
        system_metrics=False,
    )
    with tracker.lifetime():
        for change in found.changes:
            place = f"{re.sub(r'[^A-Za-z0-9_.-]', '_', change.camera)}/{change.measure}"
            tracker.log_metrics({f"{place}/effect": change.effect, f"{place}/p": change.p}, step=0)
        tracker.log_json(found.to_json(), "drift.json")
        tracker.log_text(table(found), "drift.md")
    return found


def table(found: Drift) -> str:
    """All changes as a Markdown table, the largest effect first."""
    rows = sorted(found.changes, key=lambda change: -change.effect)
    return pd.DataFrame(map(asdict, rows)).to_markdown(index=False, floatfmt=".3g") + "\n"
