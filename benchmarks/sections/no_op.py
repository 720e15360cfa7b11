"""`dvc repro` with nothing to do."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.core.result import Section
from benchmarks.core.rows import seconds_row
from benchmarks.core.settings import Settings
from benchmarks.core.small_project import SmallProject
from benchmarks.core.turns import in_turns

REPRO, ROOT = "dvc repro with nothing to do", "dvc root"
UP_TO_DATE = "Data and pipelines are up to date."


def run(settings: Settings) -> Section:
    """Run the whole pipeline once at smoke size, then time what is left to do: nothing."""
    with tempfile.TemporaryDirectory() as folder:
        project = SmallProject.make(Path(folder))
        project.run(["dvc", "repro"])

        def repro() -> None:
            output = project.run(["dvc", "repro"])
            if UP_TO_DATE not in output:
                raise AssertionError(f"a stage ran again:\n{output[-1000:]}")

        ways: dict[str, Callable[[], object]] = {ROOT: lambda: project.run(["dvc", "root"]), REPRO: repro}
        timings = in_turns(ways, turns=settings.turns(7), budget=60)
    return Section(
        key="no-op",
        title="Nothing to do",
        text="A project of its own at smoke size. `dvc root` shows what DVC needs to start.",
        reference=ROOT,
        rows=[seconds_row(name, timings, reference=ROOT) for name in ways],
    )
