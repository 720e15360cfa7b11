"""Writes results/report/index.html and report.md from what was run: `python -m pipelines.report`.

The page needs no other file and no network. What was not run is said to be so; nothing is run for the report.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from msclnet.errors import UserError
from pipelines.grids.results import RESULTS
from pipelines.orchestration.environment import home, project_root
from pipelines.reporting.comparison import comparison
from pipelines.reporting.document import Picture, Section
from pipelines.reporting.grid_sections import grid_sections
from pipelines.reporting.markdown import markdown
from pipelines.reporting.own import read_own
from pipelines.reporting.page import page
from pipelines.stage import report_user_errors

FOLDER = Path("results/report")
TITLE = "MSCLNet: an open implementation, and what it measured"
INTRODUCTION = (
    "Visible-infrared person re-identification by Modality Synergy, Modality Complement and Cascaded Aggregation "
    "(Zhang et al., ECCV 2022). Written by `python -m pipelines.report` from the results in this folder."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    description = f"Writes {FOLDER}/index.html and report.md from the results in this project."
    parser = argparse.ArgumentParser(prog="python -m pipelines.report", description=description)
    parser.add_argument(
        "--mlflow-run",
        metavar="ID",
        help="log the report to this run; otherwise to those of the grids it shows, as far as MLflow knows them",
    )
    chosen = parser.parse_args(arguments)
    report_user_errors(lambda: report(project_root(), mlflow_run=chosen.mlflow_run))


def report(root: Path, *, mlflow_run: str | None = None) -> None:
    """Write the report of a project.

    Args:
        root: The project.
        mlflow_run: Id of the MLflow run among whose artifacts it is put; None for those of the grids.

    Raises:
        UserError: A file of results is damaged, or MLflow has no such run.
    """
    own = read_own(root)
    sections = [comparison(own), *grid_sections(root)]
    write(root / FOLDER, sections)
    if not own.reports:
        print("nothing was evaluated in this folder yet: run `dvc repro` and write the report again")
    print(f"written: {FOLDER / 'index.html'}, {FOLDER / 'report.md'}")
    log_report(root, mlflow_run=mlflow_run)


def log_report(root: Path, *, mlflow_run: str | None) -> None:
    """Put the written report among the artifacts of MLflow runs; see `report`."""
    from msclnet.tracking.group import RunGroup

    if mlflow_run:
        groups = [RunGroup.attach(home=home(root), run_id=mlflow_run)]
    else:
        names = {folder.name for folder in (root / RESULTS).glob("*/")}
        try:
            groups = RunGroup.known(home=home(root), names=names) if names else []
        except UserError as error:  # nobody asked for MLflow, and the report is written
            print(f"not logged: {error}", file=sys.stderr)
            return
    for group in groups:
        group.log_artifact(root / FOLDER, "report")
    if groups:
        print(f"logged to {len(groups)} MLflow run{'s' * (len(groups) > 1)}, among the artifacts as `report`")


def write(folder: Path, sections: Sequence[Section]) -> None:
    """Write index.html, report.md and the pictures of the latter; each file appears whole or not at all."""
    files: dict[str, bytes] = {
        f"{block.name}.png": block.png
        for section in sections
        for block in section.blocks
        if isinstance(block, Picture)
    }
    files["report.md"] = markdown(TITLE, INTRODUCTION, sections).encode()
    files["index.html"] = page(TITLE, INTRODUCTION, sections).encode()
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        unfinished = folder / f".{name}.{os.getpid()}"
        unfinished.write_bytes(content)
        unfinished.replace(folder / name)


if __name__ == "__main__":
    main()
