"""Experiments as git commits under the refs where DVC looks for them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from msclnet.errors import UserError
from pipelines.orchestration.git import git, git_line
from pipelines.orchestration.slots import Slot


@dataclass(frozen=True)
class Record:
    """What an experiment was made of; kept in its commit's message.

    Attributes:
        name: the experiment's name.
        inputs: id of the tree of all files but the stages' outputs, overrides applied.
        overrides: as JSON, for readers; the inputs already hold them.
        preset: its name, or empty.
        stages: the stages that were brought up to date.
    """

    name: str
    inputs: str
    overrides: str
    preset: str
    stages: tuple[str, ...]

    def message(self) -> str:
        """The commit's message."""
        lines = [
            f"Experiment {self.name}",
            "",
            f"inputs: {self.inputs}",
            f"preset: {self.preset}",
            f"overrides: {self.overrides}",
            f"stages: {' '.join(self.stages)}",
        ]
        return "\n".join(lines)

    @classmethod
    def parse(cls, name: str, message: str) -> "Record":
        """Read a message back; one that somebody else wrote has no inputs, and so equals nothing."""
        values = dict(line.split(": ", 1) for line in message.splitlines() if ": " in line)
        return cls(
            name=name,
            inputs=values.get("inputs", ""),
            overrides=values.get("overrides", "{}"),
            preset=values.get("preset", ""),
            stages=tuple(values.get("stages", "").split()),
        )


@dataclass(frozen=True)
class Saved:
    """An experiment in the user's repository: its ref, its commit, its record and its dvc.lock."""

    ref: str
    rev: str
    record: Record
    lock: bytes


def check_name(root: Path, name: str) -> None:
    """Raise UserError where `name` cannot be the last part of a git ref."""
    try:
        git(root, "check-ref-format", f"refs/exps/{name}")
        valid = "/" not in name
    except UserError:
        valid = False
    if not valid:
        raise UserError(f"{name!r} cannot be an experiment's name: use letters, digits, dots and dashes")


def find(root: Path, base: str, name: str) -> Saved | None:
    """The experiment `name` of the commit `base`, or None."""
    ref = _ref(base, name)
    rev = git_line(root, "for-each-ref", "--format=%(objectname)", ref)
    if not rev:
        return None
    message = git(root, "show", "--no-patch", "--format=%B", rev).decode(errors="replace")
    lock = b""
    if git(root, "ls-tree", "--name-only", rev, "dvc.lock").strip():
        lock = git(root, "cat-file", "blob", f"{rev}:dvc.lock")
    return Saved(ref=ref, rev=rev, record=Record.parse(name, message), lock=lock)


def save(slot: Slot, record: Record, *, uncached: Iterable[str], replace: bool) -> Saved:
    """Commit the slot's files as the experiment that `record` describes.

    Args:
        slot: where it ran.
        record: what it was made of.
        uncached: outputs that DVC leaves to git; `dvc exp show` finds their metrics in the commit alone.
        replace: whether an experiment of the same name may be overwritten.
    """
    ref = _ref(slot.base, record.name)
    ignored = ["dvc.lock", *uncached]
    rev = slot.save(ref, message=record.message(), ignored=ignored, replace=replace)
    return Saved(ref=ref, rev=rev, record=record, lock=(slot.path / "dvc.lock").read_bytes())


def _ref(base: str, name: str) -> str:
    from dvc.repo.experiments.refs import ExpRefInfo

    return str(ExpRefInfo(base, name))
