"""Former names of the grid's run, until their callers use `msclnet.tracking.run`."""

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path

from msclnet.tracking.run import Tracker, grid_runs

DIVERGING = "diverging/"  # before the names of metrics by step, of a training that diverged


class RunGroup(Tracker):
    """`Tracker.group` by its former name, with the history of its trainings."""

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

    def history_of(self, tag: str, value: str) -> list[dict[str, float]]:
        return self._history(tag, value, "epoch", lambda n: "" if n.startswith(("system/", DIVERGING)) else n)

    def last_steps_of(self, tag: str, value: str) -> list[dict[str, float]]:
        return self._history(
            tag, value, "step", lambda n: n.removeprefix(DIVERGING) if n.startswith(DIVERGING) else ""
        )

    def _history(
        self, tag: str, value: str, axis: str, called: Callable[[str], str]
    ) -> list[dict[str, float]]:
        from mlflow import MlflowException

        rows: dict[int, dict[str, float]] = {}
        client = self.server.client
        wanted = f"tags.mlflow.parentRunId = '{self.run_id}' and tags.{tag} = '{value}'"
        with suppress(MlflowException, OSError):
            for run in client.search_runs([self.experiment_id], wanted, max_results=1):
                for name in filter(called, run.data.metrics):
                    for metric in client.get_metric_history(run.info.run_id, name):
                        rows.setdefault(metric.step, {axis: metric.step})[called(name)] = metric.value
        return [rows[step] for step in sorted(rows)]
