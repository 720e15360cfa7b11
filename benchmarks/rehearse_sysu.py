"""Rehearses the evaluation of SYSU-MM01 at its real size, before anybody has the data set: `make rehearse-sysu`.

Draws 45,863 images in SYSU-MM01's layout, runs the project's stages on them with an untrained network, checks every
published number on the way, and says what each stage took. Needs 9 GiB of disk, which it frees again.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.rehearsal.expected import SYSU_MM01
from benchmarks.rehearsal.listing import full_listing
from benchmarks.rehearsal.official import read_test_cells
from benchmarks.rehearsal.rehearsal import ROOT, Rehearsal, RehearsalError, rehearse
from benchmarks.rehearsal.report import conclude
from msclnet.errors import UserError
from pipelines import settings
from pipelines.orchestration.stage_process import sigterm_raises
from pipelines.stages.stage import report_user_errors

REPORT = ROOT / "results" / "rehearsal" / "sysu-mm01.json"
FAILED = 1


def main() -> None:
    """The command line. Exit code 1: a stage failed or a number is wrong; 2: a mistake of the user's."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rehearse_sysu", description=__doc__)
    parser.add_argument(
        "--permutations",
        type=Path,
        metavar="PATH",
        help="rand_perm_cam.mat, with test_id.mat or test_id.txt beside it: the test part is as published image by "
        "image and galleries are the official ones (default: a made-up test part with the same totals, sampler agw)",
    )
    parser.add_argument(
        "--backbone",
        choices=("slim", "resnet50"),
        help="default: resnet50 on a GPU, slim without one: on two cores resnet50 embeds for twenty minutes or more, "
        "with bf16 for ten",
    )
    parser.add_argument(
        "--precision", choices=("fp32", "bf16"), default="fp32", help="of embed (default: fp32)"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep all files in this new or empty folder"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: the machine's cores)")
    arguments = parser.parse_args()
    try:
        with sigterm_raises():
            report_user_errors(lambda: run(**vars(arguments)))
    except KeyboardInterrupt:
        sys.exit(130)


def run(
    *, permutations: Path | None, backbone: str | None, precision: str, keep: Path | None, workers: int | None
) -> None:
    """Rehearse, print and write the report.

    Raises:
        UserError: An argument is wrong, or the disk has no room.
        SystemExit: A stage failed or a number is wrong.
    """
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: give 1 or more")
    workers = workers or settings.cores()
    backbone = backbone or ("resnet50" if settings.device().type == "cuda" else "slim")
    permutations = permutations.expanduser() if permutations else None
    test = read_test_cells(permutations) if permutations else None
    overrides: dict[str, Any] = {"model.backbone": backbone, "embed.precision": precision}
    if permutations:
        overrides["evaluate.permutations"] = "data/permutations/rand_perm_cam.mat"
    rehearsal = Rehearsal(
        listing=full_listing(test),
        expected=SYSU_MM01,
        sampler="official" if permutations else "agw",
        overrides=overrides,
        workers=workers,
        permutations=permutations,
    )
    images = sum(rehearsal.expected.images.values())
    with _folder(keep) as folder:
        try:
            measured, checks = rehearse(folder, rehearsal)
        except RehearsalError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(FAILED) from error
    conditions = {
        "backbone": backbone,
        "precision": precision,
        "sampler": rehearsal.sampler,
        "workers": workers,
    }
    if not conclude(REPORT, measured, checks, images=images, settings=conditions):
        raise SystemExit(FAILED)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="rehearse-sysu-") as name:
            yield Path(name)
        return
    folder = keep.expanduser().resolve()
    if folder.exists() and (not folder.is_dir() or os.listdir(folder)):
        raise UserError(f"--keep {keep}: it is there already and not empty; name a new folder")
    yield folder


if __name__ == "__main__":
    main()
