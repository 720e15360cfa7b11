"""Former names of the grid's run, until their callers use `msclnet.tracking.run`."""

from collections.abc import Collection, Mapping
from pathlib import Path

from msclnet.tracking.run import Tracker, grid_runs

DIVERGING = "diverging/"  # before the names of metrics by step, of a training that diverged


class RunGroup(Tracker):
    """`Tracker.group` by its former name."""

    @classmethod
    def open(cls, *, home: Path, experiment: str, name: str, tags: Mapping[str, str]) -> "RunGroup":
        return cls.group(home=home, experiment=experiment, name=name, tags=tags)  # pyright: ignore

    @classmethod
    def known(cls, *, home: Path, names: Collection[str]) -> "list[RunGroup]":
        return [cls.attach(each.run_id, home=home) for each in grid_runs(home=home, names=names)]

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        super().log_artifact(path, folder)
        if not self._owner:  # the report's runs, which nobody finishes
            self.finish("FINISHED")

    @classmethod
    def attach(cls, run_id: str, *, home: Path) -> "RunGroup":
        return super().attach(run_id, home=home)  # pyright: ignore
