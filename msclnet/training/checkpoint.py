"""Checkpoints: written whole or not at all, verified when read, locked while in use."""

import hashlib
import io
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch
from filelock import FileLock, Timeout

from msclnet.errors import UserError

DIGEST = hashlib.sha256().digest_size
FINISHED = "finished"

logger = logging.getLogger("msclnet.training")


class DamagedCheckpointError(Exception):
    """The bytes of a checkpoint are not those that were written."""


class CheckpointFolder:
    """The checkpoints of one configuration, of which the latest `keep` are kept.

    `latest`: whole epochs and further steps of what was saved or loaded last; None before that.
    """

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep
        self.latest: tuple[int, int] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, state: Mapping[str, Any], *, epoch: int, step: int = 0) -> None:
        """Write the state after `epoch` whole epochs and `step` further steps of the next one.

        Older checkpoints are removed only afterwards. UserError where the disk is full: the former checkpoints are
        intact.
        """
        buffer = io.BytesIO()
        torch.save(state, buffer)
        body = buffer.getbuffer()
        # By name, `epoch-00001.step-...` follows `epoch-00001.pt`.
        target = self.folder / (f"epoch-{epoch:05d}" + (f".step-{step:07d}" if step else "") + ".pt")
        temporary = target.with_suffix(f".partial-{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                file.write(hashlib.sha256(body).digest())
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise UserError(
                f"{target} could not be written ({error.strerror}); free some space or set MSCLNET_HOME to another "
                "disk, then start again: training is resumed from the last checkpoint"
            ) from error
        self.latest = epoch, step
        for old in (*self._paths()[: -self.keep], *self.folder.glob("epoch-*.partial-*")):
            old.unlink(missing_ok=True)

    def load_latest(self) -> dict[str, Any] | None:
        """State of the newest intact checkpoint, or None.

        A damaged one is renamed to *.damaged, with a warning, and the one before it is tried.
        """
        for path in reversed(self._paths()):
            try:
                state = read_checkpoint(path)
            except DamagedCheckpointError as error:
                path.rename(path.with_suffix(".damaged"))
                logger.warning(
                    "%s: renamed to *.damaged; the checkpoint before it is used if there is one", error
                )
                continue
            epoch, _, step = path.stem.partition(".step-")
            self.latest = int(epoch.removeprefix("epoch-")), int(step or 0)
            return state
        return None

    def finish(self) -> None:
        """Mark the training as done. Its checkpoint stays until `remove_finished`: the result may not be cached yet."""
        (self.folder / FINISHED).touch()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder alone, until the process ends; UserError where another one trains the same."""
        try:
            lock = FileLock(self.folder / "lock", timeout=0).acquire()
        except Timeout as error:
            raise UserError(
                f"another process is training this very configuration (it holds {self.folder / 'lock'}); "
                "wait for its end: its result is then restored from the cache"
            ) from error
        with lock:
            with TemporaryFile(dir=self.folder):
                pass  # a folder that cannot be written is reported before anything is trained
            yield

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("epoch-*.pt"))


def remove_finished(parent: Path, *, exclude: CheckpointFolder, older_than: float = 3600.0) -> None:
    """Remove the checkpoint folders in `parent` whose trainings were done `older_than` seconds ago."""
    for marker in parent.glob(f"*/{FINISHED}"):
        if marker.parent != exclude.folder and time.time() - marker.stat().st_mtime > older_than:
            shutil.rmtree(marker.parent, ignore_errors=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state in a checkpoint file; tensors and plain values only, no code is run.

    DamagedCheckpointError where it is torn or changed: torch itself reads a flipped bit as if nothing were wrong.
    """
    data = path.read_bytes()
    digest, body = data[:DIGEST], data[DIGEST:]
    if digest != hashlib.sha256(body).digest():
        raise DamagedCheckpointError(f"{path} is torn or changed")
    return torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
