"""Checkpoints: written whole or not at all, checked when read, locked while in use."""

import fcntl
import hashlib
import io
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from msclnet.errors import UserError

MAGIC = b"msclnet-checkpoint-1\n"
DIGEST = hashlib.sha256().digest_size
FINISHED = "finished"

logger = logging.getLogger("msclnet.training")


class DamagedCheckpointError(Exception):
    """A checkpoint whose bytes are not those that were written."""


class CheckpointFolder:
    """The checkpoints of one configuration, newest last.

    Args:
        folder: Made when missing.
        keep: How many of the latest to keep, 1 or more.

    Attributes:
        latest: Whole epochs and further steps of what was saved or loaded last; None before that.
    """

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep
        self.latest: tuple[int, int] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, state: dict[str, Any], *, epoch: int, step: int = 0) -> None:
        """Write the state after an epoch; older ones beyond `keep` go only afterwards.

        Args:
            state: Tensors and plain values, nested.
            epoch: Whole epochs done.
            step: Steps of the next epoch that are done as well.

        Raises:
            UserError: The disk is full or not writable; the former checkpoints are intact.
        """
        buffer = io.BytesIO()
        torch.save(state, buffer)
        body = buffer.getbuffer()
        target = self._path(epoch, step)
        temporary = target.with_suffix(f".partial-{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                file.write(MAGIC)
                file.write(hashlib.sha256(body).digest())
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise UserError(
                f"{target} could not be written ({error.strerror}); free some space or set MSCLNET_HOME to another "
                "disk, then start again: training goes on from the last checkpoint"
            ) from error
        self.latest = epoch, step
        for old in (*self._all()[: -self.keep], *self.folder.glob("epoch-*.partial-*")):
            old.unlink(missing_ok=True)

    def load_latest(self) -> tuple[int, dict[str, Any]] | None:
        """Number of whole epochs and state of the newest sound checkpoint, or None.

        A damaged one is renamed to *.damaged, with a warning, and the one before it is taken.
        """
        for path in reversed(self._all()):
            try:
                state = read_checkpoint(path)
            except DamagedCheckpointError as error:
                path.rename(path.with_suffix(".damaged"))
                logger.warning(
                    "%s: it is set aside, and the checkpoint before it is taken if there is one", error
                )
                continue
            self.latest = _place(path)
            return self.latest[0], state
        return None

    def finish(self) -> None:
        """Mark the training as done. Its checkpoint stays until `remove_finished`: the result may not be safe yet."""
        (self.folder / FINISHED).touch()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder alone; the lock ends with the process, whatever ends it.

        Raises:
            UserError: Another process trains this very configuration.
        """
        with (self.folder / "lock").open("w") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError) as error:
                raise UserError(
                    f"another process is training this very configuration (it holds {self.folder / 'lock'}); "
                    "wait for it to end, its result will then be restored from the cache"
                ) from error
            yield

    def _path(self, epoch: int, step: int) -> Path:
        part = (
            f".step-{step:07d}" if step else ""
        )  # in the alphabet's order this follows the whole epoch's name
        return self.folder / f"epoch-{epoch:05d}{part}.pt"

    def _all(self) -> list[Path]:
        return sorted(self.folder.glob("epoch-*.pt"))


def _place(path: Path) -> tuple[int, int]:
    """Whole epochs and further steps, by the file's name."""
    epoch, _, step = path.stem.partition(".step-")
    return int(epoch.removeprefix("epoch-")), int(step or 0)


def remove_finished(parent: Path, *, but: CheckpointFolder, older_than: float = 3600.0) -> None:
    """Remove folders of trainings that were done some time ago, so that their results are safe elsewhere.

    Args:
        parent: Folder of the checkpoint folders.
        but: Stays.
        older_than: Seconds since the training was done.
    """
    for marker in parent.glob(f"*/{FINISHED}"):
        if marker.parent != but.folder and time.time() - marker.stat().st_mtime > older_than:
            shutil.rmtree(marker.parent, ignore_errors=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state in a checkpoint file; tensors and plain values only, no code is run.

    Raises:
        DamagedCheckpointError: It is torn or changed.
    """
    data = path.read_bytes()
    head, body = data[: len(MAGIC) + DIGEST], data[len(MAGIC) + DIGEST :]
    if head != MAGIC + hashlib.sha256(body).digest():
        raise DamagedCheckpointError(f"{path} is torn or changed")
    return torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
