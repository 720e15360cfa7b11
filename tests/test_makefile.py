"""`make` says what is missing before it installs anything."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """The files that make reads, as an unpacked archive has them: without .git."""
    folder = tmp_path / "outer" / "msclnet"
    folder.mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


def refusal(folder: Path, *arguments: str) -> str:
    variables = {"GIT_CEILING_DIRECTORIES": str(folder.parents[1])}
    made = subprocess.run(
        ["make", "repro", *arguments], cwd=folder, env=os.environ | variables, capture_output=True, text=True
    )
    assert made.returncode == 2
    assert not (folder / ".venv").exists()
    return made.stderr


def test_sources_without_git_get_the_commands_that_make_a_repository(sources: Path) -> None:
    assert "git init && git add --all && git commit" in refusal(sources)


def test_the_repository_around_the_sources_is_not_taken(sources: Path) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=sources.parent, check=True)
    message = refusal(sources)
    assert "git init && git add --all && git commit" in message
    assert str(sources.parent.resolve()) in message


@pytest.mark.parametrize("python", ["/no/such/python", "false"])
def test_an_unsuitable_python_is_named_with_the_versions_that_fit(sources: Path, python: str) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=sources, check=True)
    message = refusal(sources, f"PYTHON={python}")
    assert "Python 3.11, 3.12 or 3.13 is needed" in message
    assert python in message
    assert "make PYTHON=" in message
