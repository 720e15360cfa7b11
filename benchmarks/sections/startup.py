"""Start-up of each stage: from the command to the moment when its parameters are read."""

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.core.result import Section
from benchmarks.core.rows import seconds_row
from benchmarks.core.settings import Settings
from benchmarks.core.small_project import SmallProject
from benchmarks.core.turns import in_turns
from pipelines.stages.paths import PARAMS
from pipelines.stages.stage import USER_MISTAKE

STAGES = ("source", "download", "preprocess", "train", "embed", "evaluate", "visualize")
BARE = "python alone"
BUDGET = 120.0  # seconds


def run(settings: Settings) -> Section:
    """Start every stage with parameters that it refuses, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        project = SmallProject.make(Path(folder))
        parameters = project.root / PARAMS
        parameters.write_text(parameters.read_text(encoding="utf-8") + "\nunknown: 1\n", encoding="utf-8")
        ways: dict[str, Callable[[], object]] = {
            BARE: partial(project.run, [sys.executable, "-c", "pass"]),
            "import torch": partial(project.run, [sys.executable, "-c", "import torch"]),
        }
        for stage in STAGES:
            command = [sys.executable, "-m", f"pipelines.stages.{stage}"]
            ways[stage] = partial(project.run, command, expected=USER_MISTAKE)
        timings = in_turns(ways, turns=settings.turns(5), budget=BUDGET)
    return Section(
        key="startup",
        title="Start-up of each stage",
        text=(
            "Seconds until a stage has imported what it needs and has read params.yaml, in which the last line is a "
            "mistake. What a stage imports later, such as MLflow, is not in it."
        ),
        rows=[seconds_row(name, timings) for name in ways],
    )
