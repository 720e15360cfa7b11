"""Stages and DVC: the start of each stage, and `dvc repro` with nothing to do; on a copy of the project."""

import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.networks import ROOT
from benchmarks.tables import Section, measured_row
from benchmarks.timing import Settings, Ways, in_turns
from pipelines.settings import QUIET
from pipelines.stages.paths import PARAMS
from pipelines.stages.presets import apply_preset
from pipelines.stages.stage import USER_MISTAKE

COPIED = ("dvc.yaml", ".dvcignore", ".dvc/config", ".gitignore")
COPIED_FOLDERS = ("data/permutations", "data/source", "msclnet", "pipelines", "presets")


def isolated_environment(project: Path, *, code: Path) -> dict[str, str]:
    """Variables under which stages run this interpreter and `code`, and use no file or server outside `project`."""
    here, elsewhere = (
        ("MSCLNET_DEVICE", "MSCLNET_THREADS"),
        ("DVC_", "GIT_", "MLFLOW_", "MSCLNET_", "PREFECT_"),
    )
    kept = {
        name: value for name, value in os.environ.items() if name in here or not name.startswith(elsewhere)
    }
    return {
        **kept,
        **QUIET,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join([str(code), *filter(None, [kept.get("PYTHONPATH")])]),
        "MSCLNET_HOME": str(project),
        "MSCLNET_PROJECT": str(project),
    }


class SmallProject:
    """A copy of the project at smoke size with its own git, DVC cache and MLflow database, in the folder `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in COPIED_FOLDERS:
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.json"))
        (root / ".dvc").mkdir()
        for name in COPIED:
            shutil.copyfile(ROOT / name, root / name)
        apply_preset(ROOT, "smoke", target=root / PARAMS)
        self.run("git", "init", "--quiet")

    def run(self, *command: str, expected: int = 0) -> str:
        """Output of a program that runs in the project; RuntimeError for another exit status than `expected`."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=isolated_environment(self.root, code=self.root),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        if done.returncode != expected:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}")
        return done.stdout


STAGES = ("download", "preprocess", "train", "embed", "evaluate", "visualize")
BARE = "python alone"
BUDGET, QUICK_BUDGET = 120.0, 20.0  # seconds


def startup(settings: Settings) -> Section:
    """Start every stage with parameters that it refuses, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        project = SmallProject(Path(folder))
        parameters = project.root / PARAMS
        parameters.write_text(parameters.read_text(encoding="utf-8") + "\nunknown: 1\n", encoding="utf-8")
        python = partial(project.run, sys.executable)
        ways = {BARE: partial(python, "-c", "pass"), "import torch": partial(python, "-c", "import torch")}
        for stage in STAGES:
            ways[stage] = partial(python, "-m", f"pipelines.stages.{stage}", expected=USER_MISTAKE)
        budget = QUICK_BUDGET if settings.quick else BUDGET
        timings = in_turns(ways, turns=settings.turns(5), warm=settings.quick, budget=budget)
    return Section(
        key="startup",
        title="Start-up of each stage",
        text=(
            "Seconds until a stage has imported what it needs and has read params.yaml, in which the last line is a "
            "mistake. What a stage imports later, such as MLflow, is not in it."
        ),
        rows=[measured_row(name, timings) for name in ways],
    )


REPRO, START = "dvc repro with nothing to do", "dvc root"
UP_TO_DATE = "Data and pipelines are up to date."


def no_op(settings: Settings) -> Section:
    """Run the whole pipeline once at smoke size (quick: its first two stages), then time what is left: nothing."""
    command = ("dvc", "repro", *(["preprocess"] if settings.quick else []))
    with tempfile.TemporaryDirectory() as folder:
        project = SmallProject(Path(folder))
        project.run(*command)

        def repro() -> None:
            output = project.run(*command)
            if UP_TO_DATE not in output:
                raise AssertionError(f"a stage ran again:\n{output[-1000:]}")

        ways: Ways = {START: partial(project.run, "dvc", "root"), REPRO: repro}
        timings = in_turns(ways, turns=settings.turns(7), warm=settings.quick, budget=60)
    return Section(
        key="no-op",
        title="Nothing to do",
        text="A project of its own at smoke size. `dvc root` shows what DVC needs to start.",
        reference=START,
        rows=[measured_row(name, timings, reference=START) for name in ways],
    )
