"""The few git commands that isolated runs need, none of which touches the user's files, index or stash."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from msclnet.errors import UserError

# A run that is started from within a git hook inherits these; they would redirect every command below.
_REDIRECTING = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")


def git(
    folder: Path, *arguments: str, environment: Mapping[str, str] | None = None, stdin: bytes | None = None
) -> bytes:
    """Run one git command.

    Args:
        folder: the repository, or any folder inside it.
        arguments: the command and its arguments.
        environment: variables on top of the present ones.
        stdin: bytes for the command's standard input.

    Returns:
        The command's standard output.

    Raises:
        UserError: git is not installed, or the command failed; the message holds git's own words.
    """
    variables = {key: value for key, value in os.environ.items() if key not in _REDIRECTING}
    # Without optional locks even `git status` leaves the user's index as it is.
    variables |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", **(environment or {})}
    command = ["git", "-C", str(folder), "-c", "advice.addEmbeddedRepo=false", *arguments]
    try:
        done = subprocess.run(command, input=stdin, env=variables, capture_output=True, check=True)
    except FileNotFoundError:
        raise UserError("git is not installed: experiments are git commits; install git") from None
    except subprocess.CalledProcessError as error:
        words = error.stderr.decode(errors="replace").strip()
        raise UserError(f"git {arguments[0]} failed in {folder}: {words}") from error
    return done.stdout


def git_line(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Run one git command and return its output as stripped text; arguments and errors as in `git`."""
    return git(folder, *arguments, environment=environment).decode(errors="surrogateescape").strip()


def base_commit(root: Path) -> str:
    """The commit that experiments are attached to: the project's present HEAD.

    Raises:
        UserError: the project is no git repository of its own, or has no commit yet.
    """
    remedy = "run `git init && git add -A && git commit -m start` in it, then try again"
    try:
        top = Path(git_line(root, "rev-parse", "--show-toplevel"))
        head = git_line(root, "rev-parse", "--verify", "HEAD^{commit}")
    except UserError as error:
        if "not installed" in str(error) or "dubious ownership" in str(error):
            raise
        raise UserError(f"{root} has no git history, and experiments are git commits: {remedy}") from None
    if top.resolve() != root.resolve():
        raise UserError(f"{root} is a folder inside the git repository {top}, not one of its own: {remedy}")
    return head


def objects_folder(root: Path) -> Path:
    """Where the repository keeps its objects (also right for a linked worktree)."""
    return (root / git_line(root, "rev-parse", "--git-path", "objects")).resolve()


def snapshot_tree(root: Path, *, index: Path, objects: Path) -> str:
    """Write the user's files as they are now, committed or not, as a git tree.

    The tree holds every tracked and every untracked, unignored file. It is built in an index of its own. That
    index starts from the entries of the user's index without their sizes and times: git would otherwise take
    a file for unchanged that was edited within the same second to the same size.

    Args:
        root: the user's project.
        index: a file for the temporary index; overwritten.
        objects: object folder that receives the new objects, with the project's own as an alternate.

    Returns:
        The tree's id.
    """
    index.unlink(missing_ok=True)
    aside = {"GIT_INDEX_FILE": str(index), "GIT_OBJECT_DIRECTORY": str(objects)}
    entries = git(root, "ls-files", "--stage", "-z")
    git(root, "update-index", "-z", "--index-info", environment=aside, stdin=entries)
    git(root, "add", "--all", ":/", environment=aside)
    return git_line(root, "write-tree", environment=aside)


def identity(root: Path) -> dict[str, str]:
    """The author of experiment commits: the user where git knows one, otherwise a stand-in."""
    found = {}
    for key, fallback in (("name", "msclnet"), ("email", "msclnet@localhost")):
        try:
            value = git_line(root, "config", f"user.{key}") or fallback
        except UserError:
            value = fallback
        found |= {f"GIT_{role}_{key.upper()}": value for role in ("AUTHOR", "COMMITTER")}
    return found
