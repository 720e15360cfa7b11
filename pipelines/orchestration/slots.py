"""Slots: reusable copies of the project in which runs happen beside the user's working tree.

A slot is a small git repository in `.dvc/tmp/flows/<n>` that shares the project's git objects and DVC cache. It
belongs to whoever holds the lock beside it. What a stage writes there reaches the user as cache entries and, once
saved, as an experiment; his files, index and stash are never touched. A slot keeps its outputs between runs, so that
the next run links only what differs.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msclnet.errors import UserError
from pipelines.orchestration.git import base_commit, git, git_line, identity, objects_folder, snapshot_tree
from pipelines.orchestration.locks import try_lock
from pipelines.stages.paths import link_raw_data


@dataclass(frozen=True)
class Slot:
    """An isolated copy of the project, held until the end of `with slot(...)`.

    Attributes:
        root: the user's project.
        path: the copy.
        base: the commit that the copy stands on.
        snapshot: the tree of the user's files that the copy began with.
        lock: descriptor of the slot's lock, for the children to hold as well.
    """

    root: Path
    path: Path
    base: str
    snapshot: str
    lock: int

    @property
    def environment(self) -> dict[str, str]:
        """Variables for the processes that run in the slot."""
        return {"DVC_SITE_CACHE_DIR": str(self.path / ".dvc" / "tmp" / "site")}

    def tree(self, *, without: Iterable[str] = (), ignored: Iterable[str] = ()) -> str:
        """Write the slot's tracked and untracked, unignored files as a tree.

        Args:
            without: paths (files or folders) to leave out, relative to the slot.
            ignored: paths to add although git ignores them; those that don't exist are passed over.

        Returns:
            The tree's id.
        """
        index = self.path / ".git" / "tree.index"
        index.unlink(missing_ok=True)
        aside = {"GIT_INDEX_FILE": str(index)}
        # An index filled from a tree has no sizes and times: every file is read, none is taken for unchanged.
        git(self.path, "read-tree", self.snapshot, environment=aside)
        git(self.path, "add", "--all", ":/", environment=aside)
        if left_out := list(without):
            command = ("rm", "--cached", "-r", "-q", "-f", "--ignore-unmatch", "--")
            git(self.path, *command, *left_out, environment=aside)
        if added := [path for path in ignored if (self.path / path).exists()]:
            git(self.path, "add", "--force", "--", *added, environment=aside)
        return git_line(self.path, "write-tree", environment=aside)

    def save(self, ref: str, *, message: str, ignored: Iterable[str] = (), replace: bool = False) -> str:
        """Commit the slot's files on top of the base and publish them as `ref` in the user's repository.

        Args:
            ref: the full name of the experiment's ref.
            message: the commit's message.
            ignored: paths to commit although git ignores them.
            replace: whether an existing ref may be overwritten.

        Returns:
            The commit's id.
        """
        tree = self.tree(ignored=ignored)
        environment = identity(self.root)
        commit = git_line(
            self.path, "commit-tree", tree, "-p", self.base, "-m", message, environment=environment
        )
        force = ["--force"] if replace else []
        git(self.path, "push", "--quiet", "--no-verify", *force, str(self.root), f"{commit}:{ref}")
        return commit


@contextmanager
def slot(root: Path) -> Iterator[Slot]:
    """Hold a slot that has the user's present files, uncommitted and untracked ones included.

    Args:
        root: the user's project: a git repository with at least one commit and a `.dvc` folder.

    Yields:
        The slot: a free one where there is one, otherwise a new one.

    Raises:
        UserError: no git history, no DVC project, or a DVC cache that cannot be written.
    """
    root = root.resolve()
    base = base_commit(root)
    if not (root / ".dvc").is_dir():
        raise UserError(f"{root} is no DVC project: run `dvc init` in it")
    check_cache(root)
    path, lock = _acquire(root)
    try:
        snapshot = _prepare(root, path, base)
        yield Slot(root=root, path=path, base=base, snapshot=snapshot, lock=lock)
    finally:
        os.close(lock)


def cache_folder(root: Path) -> Path:
    """The DVC cache of the project, as configured by the user."""
    from dvc.config import Config

    configured = Config(dvc_dir=str(root / ".dvc"))["cache"].get("dir")
    return Path(configured or root / ".dvc" / "cache").resolve()


def check_cache(root: Path) -> None:
    """Fail now where the cache cannot be written; DVC itself would notice after the first stage has run.

    Raises:
        UserError: the cache cannot be written.
    """
    folder = cache_folder(root)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        remedy = "make room, repair its permissions, or choose another with `dvc cache dir --local PATH`"
        raise UserError(f"the DVC cache {folder} cannot be written ({reason}): {remedy}") from error


def _acquire(root: Path) -> tuple[Path, int]:
    flows = root / ".dvc" / "tmp" / "flows"
    number = 0
    while True:
        path = flows / str(number)
        lock = try_lock(flows / f"{number}.lock")
        if lock is not None:
            if not _inhabited(path):
                return path, lock
            os.close(lock)
        number += 1


def _inhabited(path: Path) -> bool:
    """Whether an orphan still works in the slot: DVC does not pass the lock's descriptor on to the stage."""
    import psutil

    if not path.exists():
        return False
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if Path(process.cwd()).is_relative_to(path):
                return True
    return False


def _prepare(root: Path, path: Path, base: str) -> str:
    try:
        snapshot = _fill(root, path, base)
    except UserError:
        # A slot that was killed half-way may be beyond repair; there is nothing in it that could be lost.
        shutil.rmtree(path, ignore_errors=True)
        snapshot = _fill(root, path, base)
    _configure(root, path)
    link_raw_data(root, path)
    return snapshot


def _fill(root: Path, path: Path, base: str) -> str:
    """Bring the slot to the user's present files; ignored ones, DVC's outputs, stay for reuse."""
    repository = path / ".git"
    if not (repository / "HEAD").is_file():
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        kind = git_line(root, "rev-parse", "--show-object-format")
        git(path, "init", "--quiet", "--template=", f"--object-format={kind}")
        for key, value in (("gc.auto", "0"), ("core.hooksPath", os.devnull)):
            git(path, "config", key, value)
    # This is `git clone --shared` by hand, which also works from a shallow clone and follows the user's new commits.
    alternates = repository / "objects" / "info" / "alternates"
    alternates.parent.mkdir(parents=True, exist_ok=True)
    alternates.write_text(f"{objects_folder(root)}\n")
    shallow = (root / git_line(root, "rev-parse", "--git-path", "shallow")).resolve()
    (repository / "shallow").unlink(missing_ok=True)
    if shallow.is_file():
        shutil.copy(shallow, repository / "shallow")

    tree = snapshot_tree(root, index=repository / "snapshot.index", objects=repository / "objects")
    git(path, "update-ref", "--no-deref", "HEAD", base)
    # DVC writes git's index so that git can take an edited params.yaml for clean: begin with none at all.
    (repository / "index").unlink(missing_ok=True)
    (repository / "index.lock").unlink(missing_ok=True)
    git(path, "read-tree", tree)
    git(path, "checkout-index", "--all", "--force", "--quiet")
    git(path, "clean", "-d", "--force", "--force", "--quiet")
    return tree


def _configure(root: Path, path: Path) -> None:
    """Give the slot the user's DVC settings and cache, with temporary files of its own."""
    from dvc.config import Config, merge

    theirs = Config(dvc_dir=str(root / ".dvc"))
    local = path / ".dvc" / "config.local"
    local.unlink(missing_ok=True)
    # It can hold the credentials of a remote.
    os.close(os.open(local, os.O_CREAT | os.O_WRONLY, 0o600))
    settings: Any
    with Config(dvc_dir=str(path / ".dvc")).edit("local") as settings:
        # Read level by level, so that paths given relative to the project's .dvc stay right in the slot's.
        merge(settings, theirs.load_one("repo"))
        merge(settings, theirs.load_one("local"))
        settings["cache"].setdefault("type", "reflink,hardlink,copy")
        settings["cache"]["dir"] = str(cache_folder(root))
        settings["core"] |= {
            "site_cache_dir": str(path / ".dvc" / "tmp" / "site"),
            "analytics": "false",
            "check_update": "false",
            "autostage": "false",
        }
    (path / ".dvc" / "tmp" / "rwlock").unlink(missing_ok=True)
