"""`python -m pipelines.flows grid NAME`: its arguments, and the run without a Prefect server."""

import argparse
import sys
from pathlib import Path
from typing import Any

from msclnet.errors import UserError
from pipelines.console import tellable
from pipelines.experiments.grid import load_grid, make_plan
from pipelines.experiments.run import ending, run_grid
from pipelines.orchestration.report import text_table
from pipelines.orchestration.runs import RunOptions, Validate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that only this command has."""
    parser.add_argument("grid", metavar="GRID", help="a file of experiments/ without its ending")
    parser.add_argument("--seeds", type=int, nargs="+", metavar="N", help="default: the grid's")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="default: all")
    parser.add_argument("--preset", metavar="NAME", help="a file of presets/ in place of the grid's")
    parser.add_argument("--parallel", type=int, default=1, metavar="N", help="cells at a time; default: 1")
    parser.add_argument(
        "--identical", action="store_true", help="run rows that are identical by construction as well"
    )


def parameters(chosen: argparse.Namespace, overrides: dict[str, Any]) -> dict[str, Any]:
    """The flow's parameters, from the command line."""
    return {
        "grid": chosen.grid,
        "seeds": chosen.seeds,
        "rows": chosen.rows,
        "overrides": overrides or None,
        "preset": chosen.preset,
        "name": chosen.name,
        "parallel": chosen.parallel,
        "identical": chosen.identical,
    }


def run_plainly(root: Path, given: dict[str, Any], *, validate: Validate, retries: int) -> int:
    """Run the cells in this process.

    Args:
        root: the project.
        given: as `parameters` returns it.
        validate: called with each cell's params file; raises UserError.
        retries: how often a stage that has crashed is tried again.

    Returns:
        Exit status: 0, or 1 if a cell has crashed.

    Raises:
        UserError: a mistake, before anything ran or in one of the cells.
    """
    parallel, identical = given.pop("parallel"), given.pop("identical")
    plan = make_plan(root, load_grid(root, given.pop("grid")), **given, validate=validate)
    conclusion = run_grid(
        root,
        plan,
        parallel=parallel,
        identical=identical,
        validate=validate,
        options=RunOptions(on_line=lambda line: print(tellable(line), flush=True), retries=retries),
        on_end=lambda outcome: print(tellable(ending(outcome)), flush=True),
    )
    print(text_table(conclusion.rows))
    for path in conclusion.written:
        print(f"written: {path}")
    if conclusion.warning:
        print(f"warning: {conclusion.warning}", file=sys.stderr)
    if conclusion.failure and conclusion.mistaken:
        raise UserError(conclusion.failure)
    if conclusion.failure:
        print(tellable(conclusion.failure), file=sys.stderr)
    return 1 if conclusion.failure else 0
