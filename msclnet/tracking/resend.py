"""Sends the metrics that a server missed, out of the run's history file."""

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from msclnet.errors import UserError
from msclnet.tracking import naming
from msclnet.tracking.lifetime import Status
from msclnet.tracking.masking import mask
from msclnet.tracking.outbox import METRICS_PER_REQUEST
from msclnet.tracking.run import LINKED_TO
from msclnet.tracking.run_setup import explained, find_or_create_run
from msclnet.tracking.server import connect

STEP_COLUMNS = ("step", "epoch")


class Resent(NamedTuple):
    """How many values were sent, how many the server already had, and to which run."""

    sent: int
    present: int
    run_id: str


def resend(history: Path, reference: Mapping, *, home: Path, status: Status = "FINISHED") -> Resent:
    """Sends every value of the history that the run does not have. Safe to repeat.

    Args:
        history: CSV with a header, one of the columns `step` or `epoch`, and one column per metric; empty
            cells were not measured. Columns that hold no numbers are passed over.
        reference: The tracker's `reference` (run.json). If the server does not know the run, its stand-in is
            used or created, as `Tracker.join` does.
        home: As for `server.connect`.
        status: What a run that still counts as running is set to, for its process could not say so itself.
            Not to be used on a run that is in fact still training.

    Raises:
        UserError: The server does not answer, or the history is missing or has no step column.
    """
    values = read_history(history)
    server = connect(home)
    with explained(server):
        from mlflow.entities import Metric

        run = find_or_create_run(
            server,
            str(reference.get("experiment") or "msclnet"),
            str(reference.get("run_name") or "linked"),
            reference=reference,
            link=LINKED_TO,
        )
        run_id = run.info.run_id
        now = int(time.time() * 1000)
        missing: list[Metric] = []
        present = 0
        for name, points in values.items():
            known = {entry.step for entry in server.client.get_metric_history(run_id, name)}
            present += len(points.keys() & known)
            missing += [Metric(name, value, now, step) for step, value in points.items() if step not in known]
        for first in range(0, len(missing), METRICS_PER_REQUEST):
            server.client.log_batch(run_id, metrics=missing[first : first + METRICS_PER_REQUEST])
        if run.info.status == "RUNNING":
            server.client.set_terminated(run_id, status)
    return Resent(len(missing), present, run_id)


def read_history(path: Path) -> dict[str, dict[int, float]]:
    """Reads a history file as `{metric: {step: value}}`, with the names that MLflow shows.

    Raises:
        UserError: The file is missing, empty, or has neither a `step` nor an `epoch` column.
    """
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            rows, columns = list(reader), list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); name the history file of a training") from None
    step_column = next((name for name in STEP_COLUMNS if name in columns), None)
    if step_column is None:
        raise UserError(f"{path}: has the columns {columns}; one of {list(STEP_COLUMNS)} is needed")
    values: dict[str, dict[int, float]] = {}
    for number, row in enumerate(rows, start=2):
        try:
            step = int(row[step_column])
        except (TypeError, ValueError):
            raise UserError(
                f"{path}, line {number}: {step_column} is {row[step_column]!r}, not a whole number"
            ) from None
        for name in columns:
            value = _number(row[name]) if name != step_column else None
            if value is not None:
                values.setdefault(naming.metric(name), {})[step] = value
    return values


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    home = os.environ.get("MSCLNET_HOME") or os.environ.get("DVC_ROOT") or "."
    parser = argparse.ArgumentParser(prog="python -m msclnet.tracking.resend", description=__doc__)
    parser.add_argument("history", type=Path, help="the training's history file (CSV)")
    parser.add_argument("run", type=Path, help="the training's run.json")
    parser.add_argument("--home", type=Path, default=Path(home), help="folder of the local database")
    parser.add_argument(
        "--status",
        choices=("FINISHED", "FAILED", "KILLED"),
        default="FINISHED",
        help="for a run that still counts as running",
    )
    options = parser.parse_args(arguments)
    try:
        reference = read_reference(options.run)
        resent = resend(options.history, reference, home=options.home, status=options.status)
    except UserError as error:
        print(f"error: {mask(str(error))}", file=sys.stderr)
        return 2
    print(f"run {resent.run_id}: {resent.sent} values sent, {resent.present} were there")
    return 0


def read_reference(path: Path) -> Mapping:
    try:
        reference = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error}); name the run.json of a training") from None
    if not isinstance(reference, dict):
        raise UserError(f"{path}: holds no run; name the run.json of a training")
    return reference


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


if __name__ == "__main__":
    sys.exit(main())
