"""The MLflow run of a training, joined by the stages after it."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from msclnet.datasets.records import Split
from msclnet.images.table import Rows, file_digest, open_array
from pipelines import settings
from pipelines.stages import paths
from pipelines.stages.lineage import lineage_tags, log_lineage

if TYPE_CHECKING:
    from msclnet.tracking.run import Tracker

PARENT_TAG = "mlflow.parentRunId"  # MLflow's own: the UI shows such runs under their parent
CELL_TAG = "grid_cell"


def read_run() -> dict[str, Any]:
    """Contents of results/train/run.json."""
    return paths.read_json(paths.RUN, stage="train")


def flow_tags() -> dict[str, str]:
    """Tags of a new run: the Prefect flow run, the grid's MLflow run and the grid's cell, where there are any."""
    names = {
        "prefect_flow_run": "MSCLNET_FLOW_RUN_ID",
        PARENT_TAG: "MSCLNET_PARENT_RUN",
        CELL_TAG: "MSCLNET_GRID_CELL",
    }
    return {tag: os.environ[variable] for tag, variable in names.items() if os.environ.get(variable)}


@contextmanager
def joined_run(stage: str, section: Mapping[str, object]) -> Iterator["Tracker"]:
    """The training's run, joined by a later stage; `section`: its parameters, which become tags."""
    from msclnet.tracking.run import Tracker

    # Parameters of an MLflow run never change, and the stage may run again.
    tags = {f"{stage}.{name}": str(value) for name, value in section.items()} | lineage_tags()
    # A training that comes from the cache stays where it was trained: under the first grid that asked for it.
    tags |= {name: value for name, value in flow_tags().items() if name not in (PARENT_TAG, CELL_TAG)}
    tracker = Tracker.join(read_run(), home=settings.home(), stage=stage, tags=tags)
    with tracker.lifetime():
        log_lineage(tracker)
        yield tracker


def dataset_digest() -> str:
    """Digest of the data set in data/processed: of its manifest, which holds every source file's checksum."""
    return file_digest(paths.MANIFEST)[:32]


EXAMPLES = 2  # images of each modality in the logged model's example


def register_network(tracker: "Tracker", splits: Mapping[Split, Rows], *, name: str) -> str | None:
    """Log results/train's network with an example of both modalities.

    Returns:
        The new version, or None (with a warning) if the server does not answer.
    """
    from msclnet.embedding import load_embedder
    from msclnet.tracking.registry import log_model

    spec = paths.read_json(paths.NETWORK_SPEC, stage="train")
    split: Split = "val" if len(splits["val"]) else "train"
    rows, pixels = splits[split], open_array(paths.images_of(split))
    chosen = np.concatenate([np.flatnonzero(rows.infrared == flag)[:EXAMPLES] for flag in (False, True)])
    example = {"images": pixels[chosen], "infrared": rows.infrared[chosen]}
    vectors = load_embedder(paths.WEIGHTS, spec)(example["images"], example["infrared"])
    return log_model(
        tracker,
        weights=paths.WEIGHTS,
        spec=spec,
        example=example,
        reference_vectors=vectors,
        name=name,
    )
