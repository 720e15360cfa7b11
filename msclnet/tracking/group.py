"""One MLflow run over many: the parent of a grid's trainings."""

import json
import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from msclnet.tracking.lifetime import Status
from msclnet.tracking.masking import brief, mask_values
from msclnet.tracking.run_setup import explained, store_tags, tags_of_the_process
from msclnet.tracking.server import Server, connect, exists, find_or_create_experiment

GROUP = "grid"  # tag of the parent: the grid's name
DIVERGING = "diverging/"  # before the names of metrics by step, of a training that diverged

logger = logging.getLogger("msclnet.tracking")


class RunGroup:
    """A parent run; trainings join it by the tag `mlflow.parentRunId`.

    Made by `open`. After that no method raises because of the server: the results are files.
    """

    def __init__(self, server: Server, run_id: str, experiment_id: str) -> None:
        """Not for callers; see `open`."""
        self.server = server
        self.run_id = run_id
        self.experiment_id = experiment_id

    @classmethod
    def open(cls, *, home: Path, experiment: str, name: str, tags: Mapping[str, str]) -> "RunGroup":
        """Go on with the group of this name, or begin it.

        Args:
            home: folder for the local database; see `server.connect`.
            experiment: MLflow experiment, that of the trainings: the UI nests runs within one alone.
            name: of the grid.
            tags: more of them.

        Raises:
            UserError: the server does not answer.
        """
        server = connect(home)
        with explained(server):
            experiment_id = find_or_create_experiment(server, experiment)
            wanted = f"tags.{GROUP} = '{name}'"
            found = server.client.search_runs([experiment_id], wanted, max_results=1)
            run = found[0] if found else server.client.create_run(experiment_id, run_name=name)
            store_tags(server, run, {**tags_of_the_process(), GROUP: name, **tags})
            server.client.update_run(run.info.run_id, status="RUNNING")
        return cls(server, run.info.run_id, experiment_id)

    @classmethod
    def attach(cls, *, home: Path, run_id: str) -> "RunGroup":
        """An existing run, by its id; how it ended stays as it is.

        Raises:
            UserError: the server does not answer, or has no such run.
        """
        server = connect(home)
        with explained(server):
            run = server.client.get_run(run_id)
        return cls(server, run_id, run.info.experiment_id)

    @classmethod
    def known(cls, *, home: Path, names: Collection[str]) -> "list[RunGroup]":
        """The groups of these names that the store has, in whatever experiment; none is made.

        Args:
            home: folder of the local database; where there is none yet, none is made either.
            names: of the grids.

        Raises:
            UserError: the server does not answer.
        """
        if not exists(home):
            return []
        server = connect(home)
        with explained(server):
            experiments = [each.experiment_id for each in server.client.search_experiments()]
            runs = server.client.search_runs(experiments, f"tags.{GROUP} LIKE '%'")
        return [
            cls(server, run.info.run_id, run.info.experiment_id)
            for run in runs
            if run.data.tags[GROUP] in names
        ]

    def log_json(self, values: Any, name: str) -> None:
        """Store values as a JSON file among the artifacts, the secrets in them masked."""
        self._try(self.server.client.log_text, self.run_id, json.dumps(mask_values(values), indent=1), name)

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Store a file, or a folder with its files."""
        send = self.server.client.log_artifacts if path.is_dir() else self.server.client.log_artifact
        self._try(send, self.run_id, str(path), folder)

    def finish(self, status: Status) -> None:
        """End the run; the next `open` goes on with it."""
        self._try(self.server.client.set_terminated, self.run_id, status)

    def history_of(self, tag: str, value: str) -> list[dict[str, float]]:
        """Figures by epoch of the newest of the group's trainings with a tag; empty where there is none.

        Args:
            tag: its name.
            value: its value.
        """
        return self._history(tag, value, "epoch", lambda n: "" if n.startswith(("system/", DIVERGING)) else n)

    def last_steps_of(self, tag: str, value: str) -> list[dict[str, float]]:
        """The same training's last steps, if it diverged: `step` and the metrics whose names start with `DIVERGING`."""
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

    def _try(self, send: Any, *arguments: Any) -> None:
        from mlflow import MlflowException

        try:
            send(*arguments)
        except (MlflowException, OSError) as error:
            logger.warning("MLflow at %s did not get everything: %s", self.server.masked_uri, brief(error))
