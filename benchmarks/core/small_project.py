"""A copy of this project at smoke size in a folder of its own, on which stages and DVC can be timed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.core.presets import ROOT
from pipelines.settings import QUIET
from pipelines.stages.presets import apply_preset

COPIED = (
    "dvc.yaml",
    ".dvcignore",
    ".dvc/config",
    ".gitignore",
    "data/permutations",
    "data/source",
    "msclnet",
    "pipelines",
    "presets",
)

# What would lead the stages to other files, or let them write to somebody's server.
SURROUNDINGS = ("DVC_", "GIT_", "MLFLOW_", "MSCLNET_", "PREFECT_")
MACHINE = ("MSCLNET_DEVICE", "MSCLNET_THREADS")


@dataclass(frozen=True)
class SmallProject:
    """A project folder with its own git, DVC cache and MLflow database."""

    root: Path

    @classmethod
    def make(cls, root: Path) -> "SmallProject":
        """Copy the project's files into a new folder."""
        for name in COPIED:
            source, target = ROOT / name, root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.json"))
            else:
                shutil.copyfile(source, target)
        apply_preset(root, "smoke")
        project = cls(root)
        project.run(["git", "init", "--quiet"])
        return project

    def environment(self) -> dict[str, str]:
        """Variables of its programs: this interpreter first, and this copy's code instead of the installed one."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if name in MACHINE or not name.startswith(SURROUNDINGS)
        }
        interpreter = str(Path(sys.executable).parent)
        return {
            **kept,
            **QUIET,
            "PATH": os.pathsep.join([interpreter, kept.get("PATH", os.defpath)]),
            "PYTHONPATH": str(self.root),
            "MSCLNET_HOME": str(self.root),
            "MSCLNET_PROJECT": str(self.root),
        }

    def run(self, command: Sequence[str], *, expected: int = 0) -> str:
        """Run a program in the project.

        Args:
            command: Program and arguments.
            expected: Its exit status.

        Returns:
            Standard output and standard error together.

        Raises:
            RuntimeError: Another exit status.
        """
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        if done.returncode != expected:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}")
        return done.stdout
