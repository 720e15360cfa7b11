"""Isolated runs: a shared clone of the project that a run has for itself, and the experiment that it leaves.

A clone in `.dvc/tmp/flows/<n>` shares the project's git objects and DVC cache, and has the user's present files,
uncommitted and untracked ones included. A run owns it while it holds the lock next to it. What the stages write there
reaches the user as cache entries and, once published, as an experiment; his files, index and stash are never touched.
The stages' outputs stay in the clone, so that the next run links only what differs.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import psutil
from filelock import FileLock, Timeout

from msclnet.errors import UserError
from pipelines.orchestration.stage_process import StageCancelledError
from pipelines.stages.paths import link_raw_data

FLOWS = Path(".dvc/tmp/flows")
RECORDS = "experiments/results"  # of finished grid cells: no input of the next one

# Set by git while it runs a hook; they would redirect every command below.
_REDIRECTING = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")
_START = "run `git init && git add -A && git commit -m start` in it, then try again"


def git(folder: Path, *arguments: str, stdin: str | bytes = "", **variables: str) -> str:
    """Run one git command and return its output, stripped; a UserError where git is not installed or fails."""
    environment = {key: value for key, value in os.environ.items() if key not in _REDIRECTING}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", **variables}
    command = ["git", "-C", str(folder), "-c", "advice.addEmbeddedRepo=false", *arguments]
    how: dict[str, Any] = {"input": os.fsencode(stdin), "env": environment, "capture_output": True}
    try:
        done = subprocess.run(command, check=True, **how)
    except FileNotFoundError:
        raise UserError("git is not installed: experiments are git commits; install git") from None
    except subprocess.CalledProcessError as error:
        message = error.stderr.decode(errors="replace").strip()
        raise UserError(f"git {arguments[0]} failed in {folder}: {message}") from error
    return os.fsdecode(done.stdout).strip()


def base_commit(root: Path) -> str:
    """The commit that experiments are attached to: HEAD of the project, which must have a repository of its own."""
    try:
        top = Path(git(root, "rev-parse", "--show-toplevel"))
        head = git(root, "rev-parse", "--verify", "HEAD^{commit}")
    except UserError as error:
        if "not installed" in str(error) or "dubious ownership" in str(error):
            raise
        raise UserError(f"{root} has no git history, and experiments are git commits: {_START}") from None
    if top.resolve() != root.resolve():
        raise UserError(f"{root} is a folder inside the git repository {top}, not one of its own: {_START}")
    return head


@dataclass(frozen=True)
class Workspace:
    """A shared clone of the project, where a run's stages work."""

    root: Path  # the user's project
    path: Path  # the clone
    base: str  # the commit that the run's experiment belongs to

    def inputs(self, commit: str | None = None, *, outputs: Iterable[str] = ()) -> str:
        """Digest of all files but outputs, dvc.lock and records: of the present ones, or of those of a commit."""
        excluded = ("dvc.lock", RECORDS, *outputs)
        digest = hashlib.sha256()
        for line in git(self.path, "ls-tree", "-r", commit or self._tree()).splitlines():
            name = line.partition("\t")[2]
            if not any(name == path or name.startswith(f"{path}/") for path in excluded):
                digest.update(os.fsencode(f"{line}\n"))
        return digest.hexdigest()

    def prepare_to_save(self) -> None:
        """Put the present files into the clone's index, for `dvc exp run` saves what git tracks."""
        _fill_index(self.path, self._tree())

    def publish(self, name: str) -> str:
        """Push the experiment that `dvc exp run` has saved into the user's repository; returns its commit."""
        ref = experiment_ref(self.base, name)
        git(self.path, "push", "--quiet", "--no-verify", "--force", str(self.root), f"{ref}:{ref}")
        return git(self.path, "rev-parse", ref)

    def _tree(self) -> str:
        return _write_tree(self.path, GIT_INDEX_FILE=str(self.path / ".git" / "tree.index"))


@contextmanager
def isolated(root: Path) -> Iterator[Workspace]:
    """Hold a clone that has the user's present files and that no other run uses; a new one where there is none."""
    root = root.resolve()
    base = base_commit(root)
    if not (root / ".dvc").is_dir():
        raise UserError(f"{root} is no DVC project: run `dvc init` in it")
    check_cache(root)
    path, lock = _acquire(root)
    try:
        try:
            _fill(root, path, base)
        except UserError:
            # A clone whose run was killed half-way may be beyond repair; there is nothing in it that could be lost.
            shutil.rmtree(path, ignore_errors=True)
            _fill(root, path, base)
        configure(root, path)
        link_raw_data(root, path)
        yield Workspace(root=root, path=path, base=base)
    finally:
        lock.release()


@contextmanager
def held(
    path: Path, *, waiting: str, log: Callable[[str], None], stop: Event | None = None
) -> Iterator[None]:
    """Hold a file lock; where another process has it, log `waiting` and wait, until `stop` is set."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, is_singleton=False, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log(waiting)
        try:
            lock.acquire(poll_interval=0.2, cancel_check=(stop or Event()).is_set)
        except Timeout:
            raise StageCancelledError("stopped while waiting for another run") from None
    try:
        yield
    finally:
        lock.release()


def check_name(root: Path, name: str) -> None:
    """Raise UserError where `name` cannot be the last part of a git ref."""
    with suppress(UserError):
        git(root, "check-ref-format", f"refs/exps/{name}")
        if "/" not in name:
            return
    raise UserError(f"{name!r} cannot be an experiment's name: use letters, digits, dots and dashes")


def experiment_ref(base: str, name: str) -> str:
    """The git ref where DVC looks for the experiment `name` of the commit `base`."""
    return f"refs/exps/{base[:2]}/{base[2:]}/{name}"


def experiment_commit(root: Path, base: str, name: str) -> str:
    """The commit of the experiment `name` of the commit `base`; empty where there is none."""
    return git(root, "for-each-ref", "--format=%(objectname)", experiment_ref(base, name))


def cache_folder(root: Path) -> Path:
    """The DVC cache of the project, as configured by the user."""
    from dvc.config import Config

    configured = Config(dvc_dir=str(root / ".dvc"))["cache"].get("dir")
    return Path(configured or root / ".dvc" / "cache").resolve()


def check_cache(root: Path) -> None:
    """Fail now where the cache cannot be written; DVC itself would fail only after the first stage has run."""
    folder = cache_folder(root)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        remedy = "make room, repair its permissions, or choose another with `dvc cache dir --local PATH`"
        raise UserError(f"the DVC cache {folder} cannot be written ({reason}): {remedy}") from error


def _acquire(root: Path) -> tuple[Path, FileLock]:
    flows = root / FLOWS
    flows.mkdir(parents=True, exist_ok=True)
    number = 0
    while True:
        path, lock = flows / str(number), FileLock(flows / f"{number}.lock", is_singleton=False)
        with suppress(Timeout):
            lock.acquire(timeout=0)
            if not _in_use(path):
                return path, lock
            lock.release()
        number += 1


def _in_use(path: Path) -> bool:
    """Whether a process works in the clone: an orphaned stage, whose run was killed and so lost the lock."""
    for process in psutil.process_iter() if path.exists() else ():
        with suppress(psutil.Error, OSError):
            if Path(process.cwd()).is_relative_to(path):
                return True
    return False


def _fill(root: Path, path: Path, base: str) -> None:
    """Bring the clone to the user's present files; ignored ones, DVC's outputs, stay for reuse."""
    repository = path / ".git"
    if not (repository / "HEAD").is_file():
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        git(path, "init", "--quiet", "--template=")
        author = {
            key: git(root, "config", "--default", fallback, "--get", key)
            for key, fallback in (("user.name", "msclnet"), ("user.email", "msclnet@localhost"))
        }
        for key, value in {"gc.auto": "0", "core.hooksPath": os.devnull, **author}.items():
            git(path, "config", key, value)
    # `git clone --shared` by hand: it also takes a shallow clone, the user's new commits, and a project that has moved.
    places = git(root, "rev-parse", "--git-path", "objects", "--git-path", "shallow").splitlines()
    objects, shallow = ((root / place).resolve() for place in places)
    (repository / "objects" / "info" / "alternates").write_bytes(os.fsencode(objects) + b"\n")
    (repository / "shallow").unlink(missing_ok=True)
    if shallow.is_file():
        shutil.copy(shallow, repository / "shallow")

    tree = _write_tree(
        root,
        GIT_INDEX_FILE=str(repository / "snapshot.index"),
        GIT_OBJECT_DIRECTORY=str(repository / "objects"),
    )
    git(path, "update-ref", "--no-deref", "HEAD", base)
    _fill_index(path, tree)
    git(path, "checkout-index", "--all", "--force", "--quiet")
    git(path, "clean", "-d", "--force", "--force", "--quiet")
    stale = git(path, "for-each-ref", "--format=delete %(refname)", "refs/exps", "refs/stash")
    git(path, "update-ref", "--no-deref", "--stdin", stdin=f"{stale}\n" if stale else "")


def _write_tree(folder: Path, **variables: str) -> str:
    """Write a folder's tracked and untracked, unignored files as a git tree, through the index GIT_INDEX_FILE."""
    Path(variables["GIT_INDEX_FILE"]).unlink(missing_ok=True)
    # Entries without sizes and times: git would take a file for unchanged that was edited within the same second.
    entries = git(folder, "ls-files", "--stage", "-z")
    git(folder, "update-index", "-z", "--index-info", stdin=entries, **variables)
    git(folder, "add", "--all", ":/", **variables)
    return git(folder, "write-tree", **variables)


def _fill_index(path: Path, tree: str) -> None:
    """Make a new index of the tree: DVC writes the former one so that git can take an edited params.yaml for clean."""
    (path / ".git" / "index").unlink(missing_ok=True)
    (path / ".git" / "index.lock").unlink(missing_ok=True)
    git(path, "read-tree", tree)


def configure(root: Path, path: Path) -> None:
    """Give a clone the user's cache, by a link so that no path needs more than DVC's ASCII, and its own locks."""
    from dvc.config import Config

    kind = Config(dvc_dir=str(root / ".dvc"))["cache"].get("type", ["reflink", "hardlink", "copy"])
    lines = ["[cache]", "dir = cache", f'type = "{",".join(kind)}"']
    lines += ["[core]", "analytics = false", "check_update = false", "autostage = false"]
    (path / ".dvc" / "config.local").write_text("\n".join(lines) + "\n")
    cache = path / ".dvc" / "cache"
    cache.unlink(missing_ok=True)
    cache.symlink_to(cache_folder(root))
    (path / ".dvc" / "tmp" / "rwlock").unlink(missing_ok=True)
