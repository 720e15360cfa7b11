"""`python -m pipelines.flows regdb`: its arguments, and the run without a Prefect server."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

from msclnet.errors import UserError
from pipelines.console import tellable
from pipelines.orchestration.cells import Cell, run_cell
from pipelines.orchestration.report import text_table
from pipelines.orchestration.runs import ExperimentResult, RunOptions
from pipelines.orchestration.side_by_side import run_side_by_side
from pipelines.regdb import PRESET, SplitOutcome, conclude, ending, split_cells
from pipelines.regdb_finished import SPLITS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that only this command has."""
    parser.add_argument("--preset", metavar="NAME", default=PRESET, help=f"default: {PRESET}")
    parser.add_argument("--until", metavar="STAGE", help="the last stage; default: all")
    parser.add_argument(
        "--splits", type=int, nargs="+", default=list(SPLITS), metavar="N", help="default: all ten"
    )
    parser.add_argument("--parallel", type=int, default=1, metavar="N", help="splits at a time; default: 1")


def parameters(chosen: argparse.Namespace, overrides: dict[str, Any]) -> dict[str, Any]:
    """The flow's parameters, as the command line says."""
    return {
        "preset": chosen.preset,
        "splits": chosen.splits,
        "overrides": overrides or None,
        "until": chosen.until,
        "name": chosen.name,
        "parallel": chosen.parallel,
    }


def run_plainly(
    root: Path, given: dict[str, Any], *, validate: Callable[[Path], object], retries: int
) -> int:
    """Run the splits in this process.

    Args:
        root: the project.
        given: as `parameters` returns it.
        validate: called with each cell's params file; raises UserError.
        retries: how often a stage that has crashed is tried again.

    Returns:
        Exit status: 0, or 1 if a split has crashed.

    Raises:
        UserError: a mistake, before anything ran or in one of the splits.
    """
    parallel = given.pop("parallel")

    def run(cell: Cell, stop: Event) -> ExperimentResult:
        options = RunOptions(
            on_line=lambda line: print(f"[{cell.title}] {line}", flush=True), retries=retries, stop=stop
        )
        return run_cell(root, cell, validate=validate, options=options)

    def report(outcome: SplitOutcome) -> None:
        print(tellable(ending(outcome)), flush=True)

    cells = split_cells(root, **given, validate=validate)
    conclusion = conclude(root, run_side_by_side(cells, run, parallel=parallel, on_end=report))
    print(text_table(conclusion.rows))
    for path in conclusion.written:
        print(f"written: {path}")
    if conclusion.failure and conclusion.mistaken:
        raise UserError(conclusion.failure)
    if conclusion.failure:
        print(tellable(conclusion.failure), file=sys.stderr)
    return 1 if conclusion.failure else 0
