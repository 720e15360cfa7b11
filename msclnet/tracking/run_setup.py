"""What a run begins with: found or created on the server, with its parameters, data set and tags."""

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from msclnet.errors import UserError
from msclnet.tracking.masking import mask
from msclnet.tracking.server import UNKNOWN, Server, find_or_create_experiment

if TYPE_CHECKING:
    from mlflow.entities import Run, RunTag

LINKED_TO = "linked_to"  # tag of a run that stands for one of another server


@dataclass(frozen=True)
class DatasetInfo:
    """The data set a model was trained on."""

    name: str  # for people
    digest: str  # hash of its contents; two data sets are the same when their digests are
    counts: Mapping[str, int]  # numbers worth showing, such as images and identities of each split


def referenced_run(server: Server, reference: Mapping) -> "Run":
    """The run of a `Tracker.reference`, or the one that stands for it on this server; created where missing."""
    experiment = str(reference.get("experiment") or "msclnet")
    run_name = str(reference.get("run_name") or "linked")
    return find_or_create_run(server, experiment, run_name, reference=reference, link=LINKED_TO)


def find_or_create_run(
    server: Server, experiment: str, run_name: str, *, reference: Mapping | None, link: str
) -> "Run":
    """The referenced run, or the run already made in its place, or a new one that names it in a tag."""
    from mlflow import MlflowException

    if reference is None:
        return server.client.create_run(find_or_create_experiment(server, experiment), run_name=run_name)
    former = str(reference.get("run_id", ""))
    if not re.fullmatch(r"[\w-]{1,64}", former):
        raise UserError(f"run.json: run_id is {former!r}, which is no MLflow run; run the training again")
    try:
        run = server.client.get_run(former)
        if run.info.lifecycle_stage == "active":
            return run
    except MlflowException as error:
        if error.error_code not in UNKNOWN:
            raise
    experiment_id = find_or_create_experiment(server, experiment)
    found = server.client.search_runs([experiment_id], f"tags.{link} = '{former}'", max_results=1)
    if found:
        return found[0]
    return server.client.create_run(experiment_id, run_name=run_name, tags={link: former})


def store_params(server: Server, run: "Run", params: Mapping[str, object]) -> None:
    """Stores what is new; refuses what contradicts the run to resume, for parameters are immutable."""
    from mlflow.entities import Param

    new = []
    for name, value in _flatten(params):
        former = run.data.params.get(name)
        if former is None:
            new.append(Param(name, value))
        elif former != value:
            raise UserError(
                f"{name}: the run to resume ({run.info.run_id}) was started with {former!r}, now it is "
                f"{value!r}. Set it back, or begin a new run without the former checkpoint."
            )
    server.client.log_batch(run.info.run_id, params=new)


def _flatten(params: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """`{"train": {"epochs": 3}}` gives ("train.epochs", "3"); lists become JSON."""
    for name, value in params.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            text = json.dumps(value, default=str) if isinstance(value, list | tuple | Mapping) else str(value)
            yield f"{prefix}{name}", mask(text)


def store_dataset(server: Server, run: "Run", dataset: DatasetInfo) -> None:
    """Stores the data set as the run's input, which the UI shows and searches, and as two tags."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    entity = Dataset(
        name=dataset.name,
        digest=dataset.digest[:36],  # MLflow takes no longer one; the whole goes into a tag
        source_type="local",
        source=json.dumps({"uri": dataset.name}),
        profile=json.dumps(dict(dataset.counts)),
    )
    training = InputTag("mlflow.data.context", "training")
    server.client.log_inputs(run.info.run_id, [DatasetInput(entity, tags=[training])])
    store_tags(server, run, {"dataset": dataset.name, "dataset_digest": dataset.digest})


def store_tags(server: Server, run: "Run", tags: Mapping[str, str]) -> None:
    """Stores tags, and waits for the server."""
    server.client.log_batch(run.info.run_id, tags=tag_entities(tags))


def tag_entities(tags: Mapping[str, str]) -> "list[RunTag]":
    """Tags for MLflow's client; logins in addresses are masked."""
    from mlflow.entities import RunTag

    if "git_commit" in tags:  # under this name the UI shows it in its own column
        tags = {**tags, "mlflow.source.git.commit": tags["git_commit"]}
    return [RunTag(name, mask(str(value))) for name, value in tags.items()]


def process_tags() -> dict[str, str]:
    """What MLflow's UI shows as a run's source and user."""
    return {
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": Path(sys.argv[0]).name,
        "mlflow.user": os.environ.get("USER", "unknown"),
    }
