"""Rehearses the evaluation of SYSU-MM01 at its real size, without the data set: `make rehearse-sysu`.

Draws 45,863 images in SYSU-MM01's layout and runs the project's stages on them; the training takes a single step. Every
number that the data set and its protocol fix is compared, and the cost of each stage is printed. Needs 9 GiB of disk
while it runs.
"""

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import psutil
import typer

from benchmarks.networks import ROOT
from benchmarks.stages import STAGES, isolated_environment
from benchmarks.sysu_mm01 import (
    SYSU_MM01,
    Check,
    Expected,
    Listing,
    checks,
    full_listing,
    read_test_cells,
    write_archive,
)
from benchmarks.tables import GIB, Target, targets
from msclnet.errors import UserError
from pipelines import settings
from pipelines.orchestration.experiments import apply_overrides
from pipelines.stages.config import load_params
from pipelines.stages.paths import PARAMS, write_json
from pipelines.stages.presets import apply_preset
from pipelines.stages.stage import user_errors_reported

REPORT = ROOT / "results" / "rehearsal" / "sysu-mm01.json"
PRESET = "sysu-mm01"
PERMUTATIONS = Path("data/permutations/rand_perm_cam.mat")
FILE_BYTES = 27 * 2**10  # of an image, on average, rounded up
OTHER_BYTES = 2**30  # weights, features, the model in MLflow
FAILED = 1

INTERVAL = 0.2  # seconds between two readings of the memory, or more:
SHARE = 0.02  # of the time, at most, goes into reading it


@dataclass(frozen=True)
class Measured:
    """Cost of a program with all its processes."""

    status: int
    seconds: float
    cpu_seconds: float  # user and system
    # Largest sum of the processes' proportional set sizes (PSS), read up to five times a second. A page that several
    # processes share counts once; pages of mapped files in memory count too.
    peak_bytes: int


def run_measured(command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Measured:
    """Run a program to its end; an interruption kills it and all processes that it has started."""
    before, started, peak = _cpu_seconds(), time.perf_counter(), 0
    process = subprocess.Popen(command, cwd=cwd, env=dict(env), start_new_session=True)
    try:
        while process.poll() is None:
            reading = time.process_time()
            with suppress(psutil.Error):
                first = psutil.Process(process.pid)
                peak = max(peak, sum(map(_memory, [first, *first.children(recursive=True)])))
            took = time.process_time() - reading
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(INTERVAL, took / SHARE))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return Measured(process.returncode, time.perf_counter() - started, _cpu_seconds() - before, peak)


def _cpu_seconds() -> float:
    """Of the children that have ended, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _memory(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        memory = process.memory_full_info()
        return getattr(memory, "pss", memory.uss)
    return 0


class RehearsalError(Exception):
    """A stage failed, or its outputs cannot be read."""


def rehearse(
    folder: Path,
    listing: Listing,
    expected: Expected,
    *,
    overrides: Mapping[str, Any],
    workers: int,
    permutations: Path | None = None,
) -> tuple[dict[str, Measured], list[Check]]:
    """Draw the images, run the stages in a folder; returns the cost of each stage and all numbers to compare.

    `overrides`: changes to presets/sysu-mm01.yaml, by dotted key. `permutations`: rand_perm_cam.mat for the galleries
    of the sampler `official`; None for the sampler `agw`.
    """
    archive, project = folder / "SYSU-MM01.zip", folder / "project"
    link = project / "data" / "source" / PRESET
    link.parent.mkdir(parents=True)
    link.symlink_to(archive)
    sampler = "official" if permutations else "agw"
    settled: dict[str, Any] = {
        "model.weights": "none",
        "train.epochs": 1,
        "train.steps_per_epoch": 1,
        "evaluate.samplers": [sampler],
        "tracking.experiment": "rehearsal-sysu-mm01",
    }
    if permutations:
        settled["evaluate.permutations"] = str(PERMUTATIONS)
        (project / PERMUTATIONS).parent.mkdir(parents=True)
        shutil.copyfile(permutations, project / PERMUTATIONS)
    apply_preset(ROOT, PRESET, target=project / PARAMS)
    apply_overrides(project / PARAMS, {**settled, **overrides})
    size = load_params(project / PARAMS).preprocess
    # Each file is in two archives, and once in an array.
    images = sum(listing.cells.values())
    needed = images * (2 * FILE_BYTES + 3 * size.height * size.width) + OTHER_BYTES
    if needed > (free := shutil.disk_usage(project).free):
        raise UserError(
            f"{project}: {needed / GIB:.1f} GiB are needed, {free / GIB:.1f} GiB are free; set TMPDIR, or give --keep, "
            "to a folder on another disk"
        )
    write_archive(archive, listing, workers=workers)
    environment = {**isolated_environment(project, code=ROOT), "MSCLNET_WORKERS": str(workers)}
    measured = {}
    for stage in STAGES:
        print(f"\n{stage}", flush=True)
        command = [sys.executable, "-m", f"pipelines.stages.{stage}"]
        measured[stage] = run_measured(command, cwd=project, env=environment)
        if status := measured[stage].status:
            raise RehearsalError(f"{stage} ended with exit status {status}; its messages are above")
    try:
        return measured, list(checks(project, expected, sampler=sampler))
    except (OSError, KeyError, ValueError) as error:
        raise RehearsalError(f"an output is missing or is not what it should be: {error!r}") from error


def conclude(
    measured: Mapping[str, Measured], checks: Sequence[Check], *, images: int, conditions: Mapping[str, Any]
) -> bool:
    """Print the results and write them to results/rehearsal/sysu-mm01.json; returns whether every number is right.

    A missed target decides nothing: the machine may be busy.
    """
    preprocess, evaluate = measured["preprocess"], measured["evaluate"]
    rate = images / preprocess.seconds / conditions["workers"]
    peak = preprocess.peak_bytes / GIB
    goals = [
        Target("preprocess, each core", rate, 400, least=True, unit="images/s"),
        Target("preprocess, peak memory", peak, 1.5, least=False, unit="GiB"),
        Target("evaluate, all protocols and features", evaluate.seconds, 30, least=False, unit="s"),
    ]
    print(f"\n{'stage':20}{'seconds':>10}{'CPU seconds':>13}{'peak GiB':>10}")
    for name, cost in measured.items():
        print(f"{name:20}{cost.seconds:10.1f}{cost.cpu_seconds:13.1f}{cost.peak_bytes / GIB:10.2f}")
    print("Peak: largest sum of the processes' proportional set sizes (PSS), mapped files included.\n")
    print(targets(goals))
    print(f"preprocess, images in a second of processor time: {images / preprocess.cpu_seconds:.0f}\n")
    for check in checks:
        print(f"ok    {check.what}: {check.found}" if check.holds else f"WRONG {check.what}")
    for check in (check for check in checks if not check.holds):
        print(f"error: {check.what}: found {check.found}, expected {check.expected}; the run is not valid")
    write_json(
        REPORT,
        {
            "settings": dict(conditions),
            "load_at_the_end": round(os.getloadavg()[0], 1),
            "stages": {name: asdict(cost) for name, cost in measured.items()},
            "targets": [{**asdict(target), "verdict": target.verdict} for target in goals],
            "numbers": [
                {name: str(value) for name, value in check._asdict().items()} | {"holds": check.holds}
                for check in checks
            ],
        },
    )
    print(f"\nall of it: {REPORT}")
    return all(check.holds for check in checks)


app = typer.Typer(add_completion=False)


@app.command(help=__doc__)
def main(
    permutations: Annotated[
        Path | None,
        typer.Option(
            help="rand_perm_cam.mat, with test_id.mat or test_id.txt next to it: the test part is as published image "
            "by image and galleries are the official ones (default: a made-up test part with the same totals, "
            "sampler agw)"
        ),
    ] = None,
    backbone: Annotated[
        Literal["slim", "resnet50"] | None,
        typer.Option(
            help="default: resnet50 on a GPU; slim without one, where resnet50 takes twenty minutes or more"
        ),
    ] = None,
    precision: Annotated[Literal["fp32", "bf16"], typer.Option(help="of embed")] = "fp32",
    keep: Annotated[Path | None, typer.Option(help="keep all files in this new or empty folder")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="processes (default: the machine's cores)")
    ] = None,
) -> None:
    """Exit code 1: a stage failed or a number is wrong; 2: a mistake of the user's."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    device = settings.device().type
    try:
        with user_errors_reported():
            run(
                permutations=permutations and permutations.expanduser(),
                backbone=backbone or ("resnet50" if device == "cuda" else "slim"),
                precision=precision,
                keep=keep and keep.expanduser(),
                workers=workers or settings.cores(),
            )
    except KeyboardInterrupt:
        sys.exit(130)


def run(*, permutations: Path | None, backbone: str, precision: str, keep: Path | None, workers: int) -> None:
    """Rehearse, print and write the report; SystemExit where a stage failed or a number is wrong."""
    if keep and keep.exists() and (not keep.is_dir() or os.listdir(keep)):
        raise UserError(f"--keep {keep}: it exists and is not empty; name a new folder")
    listing = full_listing(test=read_test_cells(permutations) if permutations else None)
    overrides = {"model.backbone": backbone, "embed.precision": precision}
    with tempfile.TemporaryDirectory(prefix="rehearse-sysu-") as temporary:
        folder = keep.resolve() if keep else Path(temporary)
        try:
            measured, checks = rehearse(
                folder, listing, SYSU_MM01, overrides=overrides, workers=workers, permutations=permutations
            )
        except RehearsalError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(FAILED) from error
    sampler = "official" if permutations else "agw"
    conditions = {"backbone": backbone, "precision": precision, "sampler": sampler, "workers": workers}
    if not conclude(measured, checks, images=sum(SYSU_MM01.images.values()), conditions=conditions):
        raise SystemExit(FAILED)


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.rehearsal")
