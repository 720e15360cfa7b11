"""How the stages after training find its MLflow run again."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from msclnet.data.manifest import file_digest
from msclnet.errors import UserError
from pipelines import machine, places

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
        return json.loads(places.RUN.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{places.RUN}: no such file; run `dvc repro train`") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{places.RUN} is damaged ({error}); run `dvc repro train --force`") from error


def flow_tags() -> dict[str, str]:
    """Tags of a new run: the Prefect flow run, the grid's MLflow run and the grid's cell, where there are any."""
    names = {
        "prefect_flow_run": "MSCLNET_FLOW_RUN_ID",
        PARENT_TAG: "MSCLNET_PARENT_RUN",
        CELL_TAG: "MSCLNET_GRID_CELL",
    }
    return {tag: os.environ[variable] for tag, variable in names.items() if os.environ.get(variable)}


@contextmanager
def joined_run(stage: str, settings: Mapping[str, object]) -> Iterator["Tracker"]:
    """The training's run, joined by a later stage for the length of a block.

    Args:
        stage: Its name.
        settings: Its section of params.yaml. Parameters of an MLflow run never change, so that a stage that may run
            again tags its own.
    """
    from msclnet.tracking.run import Tracker

    tags = {f"{stage}.{name}": str(value) for name, value in settings.items()}
    # A training that comes from the cache stays where it was trained: under the first grid that asked for it.
    tags |= {name: value for name, value in flow_tags().items() if name not in (PARENT_TAG, CELL_TAG)}
    tracker = Tracker.join(read_run(), home=machine.home(), stage=stage, tags=tags)
    with tracker.lifetime():
        yield tracker


def dataset_digest() -> str:
    """Digest of the data set in data/processed: of its manifest, which holds every source file's checksum."""
    return file_digest(places.MANIFEST)[:32]
