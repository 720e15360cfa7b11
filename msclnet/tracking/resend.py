"""Sends the metrics that a server missed, out of the run's history file."""

import csv
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from msclnet.errors import UserError
from msclnet.tracking.run import Status, metric_name
from msclnet.tracking.run_setup import referenced_run
from msclnet.tracking.server import connect, explained


class Resent(NamedTuple):
    """How many values were sent, how many the server already had, and to which run."""

    sent: int
    present: int
    run_id: str


def resend(history: Path, reference: Mapping, *, home: Path, status: Status = "FINISHED") -> Resent:
    """Sends every value of the history that the run does not have. Safe to repeat.

    If the server does not have the run of `reference` (run.json), the one that stands for it is used or created.
    `status` is for a run that still counts as running, because its process could not set it: not for one that is in
    fact training.
    """
    values = read_history(history)
    server = connect(home)
    with explained(server):
        from mlflow.entities import Metric

        found = referenced_run(server, reference)
        run_id = found.info.run_id
        now = int(time.time() * 1000)
        missing: list[Metric] = []
        present = 0
        for name, points in values.items():
            known = {entry.step for entry in server.client.get_metric_history(run_id, name)}
            present += len(points.keys() & known)
            missing += [Metric(name, value, now, step) for step, value in points.items() if step not in known]
        server.client.log_batch(run_id, metrics=missing)
        if found.info.status == "RUNNING":
            server.client.set_terminated(run_id, status)
    return Resent(len(missing), present, run_id)


def read_history(path: Path) -> dict[str, dict[int, float]]:
    """Reads a training's history as `{metric: {epoch: value}}`, with the names that MLflow shows."""
    values: dict[str, dict[int, float]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            for row in csv.DictReader(handle):
                epoch = int(row.pop("epoch"))
                for name, text in row.items():
                    if text:
                        values.setdefault(metric_name(name), {})[epoch] = float(text)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name a training's history.csv") from None
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is no history of a training ({error!r}); name its history.csv") from None
    return values


def read_reference(path: Path) -> Mapping:
    try:
        reference = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); name the run.json of a training") from None
    if not isinstance(reference, dict):
        raise UserError(f"{path}: holds no run; name the run.json of a training")
    return reference
