"""One MLflow run per trained model: started by training, joined by the later stages, under a grid's run."""

import json
import logging
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from msclnet.tracking.masking import mask
from msclnet.tracking.run_setup import (
    LINKED_TO,
    DatasetInfo,
    find_or_create_run,
    process_tags,
    referenced_run,
    store_dataset,
    store_params,
    store_tags,
    tag_entities,
)
from msclnet.tracking.sender import RESEND, Sender
from msclnet.tracking.server import Server, connect, exists, explained, find_or_create_experiment

if TYPE_CHECKING:
    from mlflow.entities import Run

Status = Literal["FINISHED", "FAILED", "KILLED"]

# Columns of a history that describe the machine, not the method: MLflow shows what begins with system/ apart.
MACHINE_METRICS = ("images_per_second", "share_waiting_for_input", "gpu_memory_gib", "seconds_left")
GRID = "grid"  # tag of a grid's run: the grid's name
RESUMED_FROM = "resumed_from"

_SECONDS_TO_FINISH: dict[Status, float] = {"FINISHED": 60.0, "FAILED": 15.0, "KILLED": 10.0}
_KILLED_BY_SIGNAL = (143, 130)

logger = logging.getLogger("msclnet.tracking")


class Tracker:
    """A run on the MLflow server, written to in the background.

    Made by `start`, `join`, `group` or `attach`, which raise a UserError if the server does not answer. After that no
    method raises or waits because of the server, except that `finish` waits a limited time for what is still unsent:
    the files that the stages write are the record.
    """

    def __init__(
        self, server: Server, run: "Run", *, experiment: str = "", owner: bool, stage: str = ""
    ) -> None:
        """Not for callers; see the class."""
        self.server = server
        self.run_id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id
        self.delivered = False
        self._experiment = experiment
        self._run_name = run.info.run_name or ""
        self._owner = owner
        self._stage = stage
        self._finished = False
        self._monitor = None
        self._sender = Sender(server.masked_uri)

    @classmethod
    def start(
        cls,
        *,
        home: Path,
        experiment: str,
        run_name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        dataset: DatasetInfo,
        resume: Mapping | None = None,
        system_metrics: bool = True,
    ) -> "Tracker":
        """Begins the run of a training, or continues it.

        Args:
            home: Folder for the local database; see `server.connect`.
            experiment: MLflow experiment; created where missing.
            run_name: The run's name in the UI.
            params: Everything that changes the result, nested at will; shown as `train.epochs`.
            tags: Git commit (`git_commit`), stage, flow run and the like.
            dataset: What is trained on.
            resume: A former tracker's `reference`. That run continues if the server has it; otherwise a new
                one begins that names it in the tag `resumed_from`.
            system_metrics: Whether processor, memory, disk, network and GPU figures are logged as well.

        Raises:
            UserError: The server does not answer, or the run to resume was started with other parameters.
        """
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        server = connect(home)
        with explained(server):
            run = find_or_create_run(server, experiment, run_name, reference=resume, link=RESUMED_FROM)
            store_params(server, run, params)
            store_dataset(server, run, dataset)
            store_tags(server, run, process_tags() | dict(tags))
            server.client.update_run(run.info.run_id, status="RUNNING")
        tracker = cls(server, run, experiment=experiment, owner=True, stage="train")
        if system_metrics:
            resumed = bool(run.data.metrics)
            tracker._monitor = SystemMetricsMonitor(
                tracker.run_id, resume_logging=resumed, tracking_uri=server.uri
            )
            tracker._monitor.start()
        return tracker

    @classmethod
    def join(
        cls, reference: Mapping, *, home: Path, stage: str, tags: Mapping[str, str] | None = None
    ) -> "Tracker":
        """Lets a later stage log into the run of the training; how it ended becomes the tag `stage.<name>`.

        A server that does not have the run of `reference` (fresh clone, other address) gets one new run for it, which
        all later stages share and whose tag `linked_to` names the original.
        """
        server = connect(home)
        with explained(server):
            run = referenced_run(server, reference)
            store_tags(server, run, {f"stage.{stage}": "RUNNING", **(tags or {})})
        owner = LINKED_TO in run.data.tags
        return cls(server, run, experiment=str(reference.get("experiment") or ""), owner=owner, stage=stage)

    @classmethod
    def group(cls, *, home: Path, experiment: str, name: str, tags: Mapping[str, str]) -> "Tracker":
        """Begins or continues the run of a grid, in the experiment of its trainings: the UI nests within one alone."""
        server = connect(home)
        with explained(server):
            experiment_id = find_or_create_experiment(server, experiment)
            found = server.client.search_runs([experiment_id], f"tags.{GRID} = '{name}'", max_results=1)
            run = found[0] if found else server.client.create_run(experiment_id, run_name=name)
            store_tags(server, run, {**process_tags(), GRID: name, **tags})
            server.client.update_run(run.info.run_id, status="RUNNING")
        return cls(server, run, experiment=experiment, owner=True)

    @classmethod
    def attach(cls, run_id: str, *, home: Path) -> "Tracker":
        """An existing run, for more files; its status stays as it is."""
        server = connect(home)
        with explained(server):
            return cls(server, server.client.get_run(run_id), owner=False)

    @property
    def reference(self) -> dict[str, str]:
        """What later stages and a resumed training need to find this run; without login, ready for JSON."""
        return {
            "tracking_uri": self.server.masked_uri,
            "experiment": self._experiment,
            "experiment_id": self.experiment_id,
            "run_name": self._run_name,
            "run_id": self.run_id,
        }

    def log_metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Queues metrics; never raises, never waits."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(metric_name(name), float(value), now, int(step)) for name, value in values.items()]
        self._sender.put(partial(self.server.client.log_batch, self.run_id, metrics=metrics))

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Queues a file, or a folder with its files, which must stay as they are until `finish`."""
        client = self.server.client
        send = client.log_artifacts if path.is_dir() else client.log_artifact
        self._sender.put(partial(send, self.run_id, str(path.absolute()), folder))

    def log_json(self, values: Any, name: str) -> None:
        """Queues values as a JSON file among the artifacts; logins in addresses are masked."""
        self.log_text(mask(json.dumps(values, indent=1)), name)

    def log_text(self, text: str, name: str) -> None:
        """Queues a text, as it is, as a file among the artifacts."""
        self._sender.put(partial(self.server.client.log_text, self.run_id, text, name))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Queues tags; logins in addresses are masked."""
        self._sender.put(partial(self.server.client.log_batch, self.run_id, tags=tag_entities(tags)))

    def finish(self, status: Status) -> None:
        """Sends what is left and ends the run; later calls do nothing.

        Waits at most a minute (after a kill ten seconds). What could not be delivered is warned about, with
        the command that sends it later; `delivered` says so as well.
        """
        if self._finished:
            return
        self._finished = True
        if self._monitor is not None:
            # It joins a thread that may hang in a request, so it gets a thread of its own and a limit.
            stopper = threading.Thread(target=self._monitor.finish, daemon=True)
            stopper.start()
            stopper.join(5.0)
        if self._stage:
            self.set_tags({f"stage.{self._stage}": status})
        if self._owner:
            self._sender.put(partial(self.server.client.set_terminated, self.run_id, status))
        self.delivered = self._sender.close(_SECONDS_TO_FINISH[status])
        if not self.delivered:
            logger.warning("MLflow at %s did not get everything. %s", self.server.masked_uri, RESEND)

    @contextmanager
    def lifetime(self) -> Iterator[None]:
        """Ends the run however the block ends: SIGTERM and Ctrl-C as KILLED, another exception as FAILED.

        SIGTERM is expected as SystemExit(143), which the stages' signal handler raises.
        """
        status: Status = "FAILED"
        try:
            yield
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        except SystemExit as stop:
            status = "KILLED" if stop.code in _KILLED_BY_SIGNAL else "FAILED" if stop.code else "FINISHED"
            raise
        finally:
            self.finish(status)


def grid_runs(*, home: Path, names: Collection[str]) -> list[Tracker]:
    """The runs of grids with these names, in any experiment; neither a run nor a database is created."""
    if not exists(home):
        return []
    server = connect(home)
    with explained(server):
        experiments = [each.experiment_id for each in server.client.search_experiments()]
        runs = server.client.search_runs(experiments, f"tags.{GRID} LIKE '%'")
    return [Tracker(server, run, owner=False) for run in runs if run.data.tags[GRID] in names]


def metric_name(column: str) -> str:
    """The metric's name for a column of the history: those of the machine become system metrics."""
    return f"system/{column}" if column in MACHINE_METRICS else column
