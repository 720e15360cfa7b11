"""From a listing to the numbers that come out, by the project's own stages in a folder of their own."""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.rehearsal.archive import write_archive
from benchmarks.rehearsal.checks import Check, checks
from benchmarks.rehearsal.expected import Expected
from benchmarks.rehearsal.listing import Listing
from benchmarks.rehearsal.measure import Measured, run_measured
from msclnet.errors import UserError
from pipelines.orchestration.overrides import apply_overrides, apply_preset
from pipelines.settings import QUIET
from pipelines.stages.config import load_params
from pipelines.stages.paths import PARAMS

ROOT = Path(__file__).resolve().parents[2]
PRESET = "sysu-mm01"
STAGES = {
    "download": "pipelines.stages.download",
    "preprocess": "pipelines.stages.preprocess",
    "untrained network": "benchmarks.rehearsal.untrained",
    "embed": "pipelines.stages.embed",
    "evaluate": "pipelines.stages.evaluate",
    "visualize": "pipelines.stages.visualize",
}
FILE_BYTES = 27 * 2**10  # of an image, on average, rounded up
OTHER_BYTES = 2**30  # weights, features, the model in MLflow

# What would lead the stages to other files, or let them write to somebody's server.
SURROUNDINGS = ("DVC_", "GIT_", "MLFLOW_", "MSCLNET_", "PREFECT_")
MACHINE = ("MSCLNET_DEVICE", "MSCLNET_THREADS")


class RehearsalError(Exception):
    """A stage failed, or its outputs cannot be read."""


@dataclass(frozen=True)
class Rehearsal:
    """What is to be rehearsed.

    Attributes:
        listing: The images.
        expected: What must come out.
        sampler: Of the galleries: `official` or `agw`.
        overrides: Further changes to presets/sysu-mm01.yaml, by dotted key.
        workers: Processes that draw, decode and resize.
        permutations: rand_perm_cam.mat for the sampler `official`.
    """

    listing: Listing
    expected: Expected
    sampler: str
    overrides: Mapping[str, Any]
    workers: int
    permutations: Path | None = None


def rehearse(folder: Path, rehearsal: Rehearsal) -> tuple[dict[str, Measured], list[Check]]:
    """Draw the images, run the stages and look at their outputs.

    Args:
        folder: Where all of it goes: the archive, and a project with `data`, `results` and `mlruns`. Must not hold
            either yet. About 9 GiB at full size.
        rehearsal: What is to be rehearsed.

    Returns:
        What each stage took, in the order of their runs, and all numbers, right or wrong.

    Raises:
        UserError: The disk has no room, or an override is wrong.
        RehearsalError: A stage failed, or its outputs cannot be read.
    """
    archive, project = folder / "SYSU-MM01.zip", folder / "project"
    project.mkdir(parents=True)
    write_params(project, rehearsal)
    _check_space(project, images=rehearsal.listing.size)
    write_archive(archive, rehearsal.listing, workers=rehearsal.workers)

    link = project / "data/source" / PRESET
    link.parent.mkdir(parents=True)
    link.symlink_to(archive)
    if rehearsal.permutations:
        (project / "data/permutations").mkdir()
        (project / "data/permutations/rand_perm_cam.mat").symlink_to(rehearsal.permutations.resolve())
    variables = environment(project, workers=rehearsal.workers)
    measured = {}
    for name, module in STAGES.items():
        print(f"\n{name}", flush=True)
        measured[name] = run_measured([sys.executable, "-m", module], cwd=project, env=variables)
        if status := measured[name].status:
            raise RehearsalError(f"{name} ended with exit status {status}; its own words stand above")
    try:
        return measured, list(checks(project, rehearsal.expected, sampler=rehearsal.sampler))
    except (OSError, KeyError, ValueError) as error:
        raise RehearsalError(f"an output is missing or is not what it should be: {error!r}") from error


def write_params(project: Path, rehearsal: Rehearsal) -> None:
    """The preset with what a rehearsal changes.

    Raises:
        UserError: An override is wrong.
    """
    apply_preset(ROOT, PRESET, target=project / PARAMS)
    overrides = {
        "model.weights": "none",
        "evaluate.samplers": [rehearsal.sampler],
        "tracking.experiment": "rehearsal-sysu-mm01",
        **rehearsal.overrides,
    }
    apply_overrides(project / PARAMS, overrides)
    load_params(project / PARAMS)


def environment(project: Path, *, workers: int) -> dict[str, str]:
    """Variables under which the stages read the archive, run this code and write into the project alone."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in MACHINE or not name.startswith(SURROUNDINGS)
    }
    paths = [str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    return {
        **kept,
        **QUIET,
        "PYTHONPATH": os.pathsep.join(paths),
        "MSCLNET_HOME": str(project),
        "MSCLNET_PROJECT": str(project),
        "MSCLNET_WORKERS": str(workers),
    }


def _check_space(project: Path, *, images: int) -> None:
    size = load_params(project / PARAMS).preprocess
    # Each file is in two archives, and once in an array.
    needed = images * (2 * FILE_BYTES + 3 * size.height * size.width) + OTHER_BYTES
    free = shutil.disk_usage(project).free
    if needed > free:
        raise UserError(
            f"{project}: {needed / 2**30:.1f} GiB are needed, {free / 2**30:.1f} GiB are free; set TMPDIR, or give "
            "--keep, to a folder on another disk"
        )
