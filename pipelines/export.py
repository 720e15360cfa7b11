"""The trained network for other programs, as ONNX and OpenVINO's format: `python -m pipelines.export`."""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msclnet.errors import UserError
from pipelines import places
from pipelines.orchestration.environment import QUIET
from pipelines.orchestration.process_tree import sigterm_raises
from pipelines.stage import report_user_errors
from pipelines.tracked import joined_run, read_run

OUT = Path("results/export")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.export",
        description="Writes the trained network for other programs: one ONNX graph for each modality and, where the "
        "package openvino is installed, the same in OpenVINO's format. A graph takes any number of uint8 RGB images "
        "as they are stored, (N, height, width, 3), and normalises them itself. Each file is compared with the "
        "network on real images before it is kept, and logged to the training's MLflow run.",
    )
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER", help=f"default: {OUT}")
    options = parser.parse_args(arguments)
    with sigterm_raises():
        report_user_errors(lambda: export(options.out))


def export(out: Path) -> None:
    """results/train, data/processed -> visible.* and infrared.* in a folder, and in MLflow.

    Raises:
        UserError: There is no trained network, a package is missing, the folder cannot be written, a graph does not
            agree with the network (then nothing is written), or MLflow does not answer (then the files are there).
    """
    for path in (places.NETWORK_SPEC, places.WEIGHTS):
        if not path.is_file():
            raise UserError(f"{path}: no such file, so there is nothing to export; run `dvc repro train`")
    read_run()  # before minutes of work

    from pipelines.export_files import write_files

    report = write_files(out)
    for name, compared in report["agreement"].items():
        print(
            f"{out / name}: cosine to the network at least {compared['cosine']:.7f} ({compared['images']} images)"
        )
    log(out, report)


def log(out: Path, report: Mapping[str, Any]) -> None:
    """Log the files and how near they come to the network into the training's run."""
    versions = {f"{name}_version": version for name, version in report["versions"].items()}
    with joined_run("export", {"opset": report["opset"], **versions}) as tracker:
        cosines = {f"export/{name}/cosine": found["cosine"] for name, found in report["agreement"].items()}
        tracker.log_metrics(cosines, step=0)
        for name in (*report["files"], "export.json"):
            tracker.log_artifact(out / name, "export")


if __name__ == "__main__":
    main()
