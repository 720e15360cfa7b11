"""The git commands that isolated runs need; none touches the user's files, index or stash."""

import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from msclnet.errors import UserError

# Set by git while it runs a hook; they would redirect every command below.
_REDIRECTING = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")
_START = "run `git init && git add -A && git commit -m start` in it, then try again"


def git(
    folder: Path, *arguments: str, environment: Mapping[str, str] | None = None, stdin: bytes = b""
) -> bytes:
    """Run one git command; it leaves the user's index as it is.

    Args:
        folder: the repository, or any folder inside it.
        arguments: the command and its arguments.
        environment: variables on top of the present ones.
        stdin: bytes for the command's standard input.

    Returns:
        The command's standard output.

    Raises:
        UserError: git is not installed, or the command failed; the message holds git's own.
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
        message = error.stderr.decode(errors="replace").strip()
        raise UserError(f"git {arguments[0]} failed in {folder}: {message}") from error
    return done.stdout


def git_line(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Run one git command and return its output as stripped text; arguments and errors as in `git`."""
    return git(folder, *arguments, environment=environment).decode(errors="surrogateescape").strip()


def base_commit(root: Path) -> str:
    """The commit that experiments are attached to: the project's present HEAD.

    Raises:
        UserError: the project is no git repository of its own, or has no commit yet.
    """
    try:
        top = Path(git_line(root, "rev-parse", "--show-toplevel"))
        head = git_line(root, "rev-parse", "--verify", "HEAD^{commit}")
    except UserError as error:
        if "not installed" in str(error) or "dubious ownership" in str(error):
            raise
        raise UserError(f"{root} has no git history, and experiments are git commits: {_START}") from None
    if top.resolve() != root.resolve():
        raise UserError(f"{root} is a folder inside the git repository {top}, not one of its own: {_START}")
    return head


def write_tree(folder: Path, *, index: Path, entries_of: Path, objects: Path | None = None) -> str:
    """Write a folder's tracked and untracked, unignored files as a git tree, through an index of its own.

    That index starts from the entries of another one without their sizes and times: git would otherwise take a file
    for unchanged that was edited within the same second to the same size.
    """
    index.unlink(missing_ok=True)
    environment = {"GIT_INDEX_FILE": str(index)}
    if objects is not None:
        environment["GIT_OBJECT_DIRECTORY"] = str(objects)
    entries = git(entries_of, "ls-files", "--stage", "-z")
    git(folder, "update-index", "-z", "--index-info", environment=environment, stdin=entries)
    git(folder, "add", "--all", ":/", environment=environment)
    return git_line(folder, "write-tree", environment=environment)


def identity(root: Path) -> dict[str, str]:
    """The author of experiments: the configured user, otherwise a placeholder."""
    found = {}
    for key, fallback in (("user.name", "msclnet"), ("user.email", "msclnet@localhost")):
        found[key] = fallback
        with suppress(UserError):
            found[key] = git_line(root, "config", key) or fallback
    return found
