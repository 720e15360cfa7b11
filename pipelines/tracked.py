"""How the stages after training find its MLflow run again."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from msclnet.data.manifest import file_digest
from msclnet.errors import UserError
from pipelines import machine, places

if TYPE_CHECKING:
    from msclnet.tracking.run import Tracker


def read_run() -> dict[str, Any]:
    """Contents of results/train/run.json.

    Raises:
        UserError: The file is missing or damaged.
    """
    try:
        return json.loads(places.RUN.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{places.RUN}: no such file; run `dvc repro train`") from error
    except ValueError as error:
        raise UserError(f"{places.RUN} is damaged ({error}); run `dvc repro train --force`") from error


@contextmanager
def joined_run(stage: str) -> Iterator["Tracker"]:
    """The training's run, joined by a later stage for the length of a block."""
    from msclnet.tracking.run import Tracker

    tracker = Tracker.join(read_run(), home=machine.home(), stage=stage)
    with tracker.lifetime():
        yield tracker


def dataset_digest() -> str:
    """Digest of the data set in data/processed: of its manifest, which holds every source file's checksum."""
    return file_digest(places.MANIFEST)[:32]
