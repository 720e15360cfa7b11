"""The MLflow run of a training, joined by the stages after it."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from msclnet.datasets.records import Split
from msclnet.errors import UserError
from msclnet.images.table import file_digest, open_array, read_splits
from pipelines import settings
from pipelines.stages import paths
from pipelines.stages.lineage import lineage_tags, log_lineage

if TYPE_CHECKING:
    from msclnet.tracking.run import Tracker

PARENT_TAG = "mlflow.parentRunId"  # MLflow's own: the UI shows such runs under their parent
CELL_TAG = "grid_cell"


def read_run() -> dict[str, Any]:
    """Contents of results/train/run.json.

    Raises:
        UserError: The file is missing or damaged.
    """
    try:
        return json.loads(paths.RUN.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{paths.RUN}: no such file; run `dvc repro train`") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{paths.RUN} is damaged ({error}); run `dvc repro train --force`") from error


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
    """The training's run, joined by a later stage for the length of a block.

    Args:
        stage: Its name.
        section: Its section of params.yaml. Parameters of an MLflow run never change, so that a stage that may run
            again tags its own.
    """
    from msclnet.tracking.run import Tracker

    tags = {f"{stage}.{name}": str(value) for name, value in section.items()}
    # A training that comes from the cache stays where it was trained: under the first grid that asked for it.
    tags |= lineage_tags()
    tags |= {name: value for name, value in flow_tags().items() if name not in (PARENT_TAG, CELL_TAG)}
    tracker = Tracker.join(read_run(), home=settings.home(), stage=stage, tags=tags)
    with tracker.lifetime():
        log_lineage(tracker)
        yield tracker


def dataset_digest() -> str:
    """Digest of the data set in data/processed: of its manifest, which holds every source file's checksum."""
    return file_digest(paths.MANIFEST)[:32]


EXAMPLES = 2  # images of each modality in the logged model's example


def register_network(tracker: "Tracker", *, name: str) -> str | None:
    """Log results/train's network with an example of both modalities.

    Args:
        tracker: The run that it belongs to.
        name: Registered model.

    Returns:
        The new version, or None (with a warning) if the server does not answer.
    """
    from msclnet.embedding import load_embedder
    from msclnet.tracking.registry import log_model

    spec = json.loads(paths.NETWORK_SPEC.read_text(encoding="utf-8"))
    splits = read_splits(paths.MANIFEST)
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
