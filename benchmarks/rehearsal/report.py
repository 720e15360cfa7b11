"""What a rehearsal found, as a table and as JSON."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.core.target import Target
from benchmarks.rehearsal.checks import Check
from benchmarks.rehearsal.measure import Measured
from pipelines.stages.paths import write_json

GIB = 2**30


def targets(measured: Mapping[str, Measured], *, images: int, workers: int) -> list[Target]:
    """The targets for the whole stages, their start and end included.

    Args:
        measured: By stage.
        images: Images that were preprocessed.
        workers: Processes that did it.
    """
    preprocess, evaluate = measured["preprocess"], measured["evaluate"]
    rate = images / preprocess.seconds / workers
    memory = preprocess.peak_bytes / GIB
    return [
        Target("preprocess, each core", rate, 400, least=True, unit="images/s"),
        Target("preprocess, peak memory", memory, 1.5, least=False, unit="GiB"),
        Target("evaluate, all protocols and features", evaluate.seconds, 30, least=False, unit="s"),
    ]


def conclude(
    path: Path,
    measured: Mapping[str, Measured],
    checks: Sequence[Check],
    *,
    images: int,
    settings: Mapping[str, Any],
) -> bool:
    """Print everything and write it as JSON.

    Args:
        path: The JSON file.
        measured: By stage.
        checks: All numbers, right or wrong.
        images: Images that were preprocessed.
        settings: How it was run; `workers` is the number of processes that preprocessed.

    Returns:
        Whether every number is right. Targets that were missed are told and decide nothing: the machine may be busy.
    """
    kept = targets(measured, images=images, workers=settings["workers"])
    print("\n" + table(measured, checks, kept, images=images))
    write_json(path, as_dict(measured, checks, kept, settings=settings))
    print(f"\nall of it: {path}")
    return all(check.holds for check in checks)


def table(
    measured: Mapping[str, Measured], checks: Sequence[Check], kept: Sequence[Target], *, images: int
) -> str:
    """For a terminal: stages, targets, numbers."""
    lines = [f"{'stage':20}{'seconds':>10}{'CPU seconds':>13}{'peak GiB':>10}"]
    for name, taken in measured.items():
        lines.append(f"{name:20}{taken.seconds:10.1f}{taken.cpu_seconds:13.1f}{taken.peak_bytes / GIB:10.2f}")
    lines += [
        "Peak: the largest sum over a stage's processes of their proportional set sizes (PSS), mapped files included.",
        "",
        *map(str, kept),
        f"preprocess, images in a second of processor time: {images / measured['preprocess'].cpu_seconds:.0f}",
        "",
    ]
    wrong = [check for check in checks if not check.holds]
    lines += [f"{'ok   ' if check.holds else 'WRONG'} {check.what}: {check.found}" for check in checks]
    lines += [
        f"error: {check.what}: found {check.found}, expected {check.expected}; the whole run is worth nothing"
        for check in wrong
    ]
    return "\n".join(lines)


def as_dict(
    measured: Mapping[str, Measured],
    checks: Sequence[Check],
    kept: Sequence[Target],
    *,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """For JSON, with how busy the machine was."""
    return {
        "settings": dict(settings),
        "load_at_the_end": round(os.getloadavg()[0], 1),
        "stages": {name: asdict(taken) for name, taken in measured.items()},
        "targets": [{**asdict(target), "met": target.met} for target in kept],
        "numbers": [
            {
                "what": check.what,
                "found": str(check.found),
                "expected": str(check.expected),
                "holds": check.holds,
            }
            for check in checks
        ],
    }
