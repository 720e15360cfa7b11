"""Puts a run on the server, or finds it there, before the first metric."""

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from msclnet.errors import UserError
from msclnet.tracking import naming
from msclnet.tracking.masking import brief, mask
from msclnet.tracking.server import Server, find_or_create_experiment

if TYPE_CHECKING:
    from mlflow.entities import Run, RunTag

_ENTITIES_PER_REQUEST = 100  # MLflow refuses more parameters or tags at once


@dataclass(frozen=True)
class DatasetInfo:
    """The data set a model was trained on.

    Attributes:
        name: For people.
        digest: Hash of its contents; two data sets are the same when their digests are.
        counts: Numbers worth showing, e.g. images and identities of each split.
    """

    name: str
    digest: str
    counts: Mapping[str, int]


@contextmanager
def explained(server: Server) -> Iterator[None]:
    """Turns the server's troubles within the block into UserError, without the secrets of its address."""
    from mlflow import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:
        raise UserError(f"MLflow at {server.masked_uri} failed: {brief(error)}") from None


def find_or_create_run(
    server: Server, experiment: str, run_name: str, *, reference: Mapping | None, link: str
) -> "Run":
    """The referenced run, or the run already made in its place, or a new one that names it in a tag."""
    former = ""
    if reference is not None:
        former = str(reference.get("run_id", ""))
        if not re.fullmatch(r"[\w-]{1,64}", former):
            raise UserError(f"run.json: run_id is {former!r}, which is no MLflow run; run the training again")
        if (run := _known_run(server, former)) is not None:
            return run
    experiment_id = find_or_create_experiment(server, experiment)
    if former:
        found = server.client.search_runs([experiment_id], f"tags.{link} = '{former}'", max_results=1)
        if found:
            return found[0]
    tags = {link: former} if former else {}
    return server.client.create_run(experiment_id, run_name=run_name, tags=tags)


def _known_run(server: Server, run_id: str) -> "Run | None":
    from mlflow import MlflowException

    try:
        run = server.client.get_run(run_id)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None


def store_params(server: Server, run: "Run", params: Mapping[str, object]) -> None:
    """Stores what is new; refuses what contradicts the run to resume, for parameters are immutable."""
    from mlflow.entities import Param

    full = naming.flatten(params)
    flat = {naming.key(name): naming.fit(value, naming.PARAM_LENGTH) for name, value in full.items()}
    for name, value in flat.items():
        former = run.data.params.get(name, value)
        if former != value:
            raise UserError(
                f"{name}: the run to resume ({run.info.run_id}) was started with {former!r}, now it is "
                f"{value!r}. Set it back, or begin a new run without the former checkpoint."
            )
    if any(len(value) > naming.PARAM_LENGTH for value in full.values()):
        server.client.log_dict(run.info.run_id, full, "params.json")
    entities = [Param(name, value) for name, value in flat.items() if name not in run.data.params]
    for first in range(0, len(entities), _ENTITIES_PER_REQUEST):
        server.client.log_batch(run.info.run_id, params=entities[first : first + _ENTITIES_PER_REQUEST])


def store_dataset(server: Server, run: "Run", dataset: DatasetInfo) -> None:
    """Stores the data set as the run's input, which the UI shows and searches, and as two tags."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    entity = Dataset(
        name=mask(dataset.name),
        digest=dataset.digest[: naming.DIGEST_LENGTH],  # the whole one goes into a tag
        source_type="local",
        source=json.dumps({"uri": mask(dataset.name)}),
        profile=json.dumps(dict(dataset.counts)),
    )
    training = InputTag("mlflow.data.context", "training")
    server.client.log_inputs(run.info.run_id, [DatasetInput(entity, tags=[training])])
    store_tags(server, run, {"dataset": dataset.name, "dataset_digest": dataset.digest})


def store_tags(server: Server, run: "Run", tags: Mapping[str, str]) -> None:
    """Stores tags at once."""
    server.client.log_batch(run.info.run_id, tags=tag_entities(tags))


def tag_entities(tags: Mapping[str, str]) -> "list[RunTag]":
    """Tags as MLflow takes them, cut to its length, with the secrets of addresses masked."""
    from mlflow.entities import RunTag

    if "git_commit" in tags:  # under this name the UI shows it in its own column
        tags = {**tags, "mlflow.source.git.commit": tags["git_commit"]}
    return [
        RunTag(naming.key(name), naming.fit(mask(str(value)), naming.TAG_LENGTH))
        for name, value in tags.items()
    ]


def tags_of_the_process() -> dict[str, str]:
    """What MLflow's UI shows as a run's source and user."""
    return {
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": Path(sys.argv[0]).name,
        "mlflow.user": os.environ.get("USER", "unknown"),
    }
