"""One MLflow run per trained model: started by training, joined by the later stages."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msclnet.tracking import naming
from msclnet.tracking.lifetime import Status, lifetime
from msclnet.tracking.outbox import Outbox
from msclnet.tracking.run_setup import (
    DatasetInfo,
    explained,
    find_or_create_run,
    store_dataset,
    store_params,
    store_tags,
    tag_entities,
    tags_of_the_process,
)
from msclnet.tracking.server import Server, connect

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run

RESUMED_FROM = "resumed_from"
LINKED_TO = "linked_to"
RESEND = (
    "Afterwards, send the missing metrics with: python -m msclnet.tracking.resend HISTORY.csv RUN.json "
    "(the run's history and its run.json)."
)

_SECONDS_TO_FINISH: dict[Status, float] = {"FINISHED": 60.0, "FAILED": 15.0, "KILLED": 10.0}

logger = logging.getLogger("msclnet.tracking")


class Tracker:
    """A run on the MLflow server, written to in the background.

    Made by `start` or `join`. After that no method raises or waits because of the server, except that
    `finish` waits a limited time for what is still unsent: the files that the stages write are the record.
    """

    def __init__(
        self, server: Server, run: "Run", *, experiment: str, run_name: str, owner: bool, stage: str
    ) -> None:
        """Not for callers; see `start` and `join`."""
        self.server = server
        self.run_id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id
        self.delivered = False
        self._experiment = experiment
        self._run_name = run_name
        self._owner = owner
        self._stage = stage
        self._finished = False
        self._no_numbers: set[str] = set()
        self._monitor = None
        self._outbox = Outbox(self._send_metrics, address=server.masked_uri, remedy=RESEND)

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
        """Begins the run of a training, or goes on with it.

        Args:
            home: Folder for the local database; see `server.connect`.
            experiment: MLflow experiment; created where missing.
            run_name: The run's name in the UI.
            params: Everything that changes the result, nested as it likes; shown as `train.epochs`.
            tags: Git commit (`git_commit`), stage, flow run and the like.
            dataset: What is trained on.
            resume: A former tracker's `reference`. That run goes on if the server knows it; otherwise a new
                one begins that names it in the tag `resumed_from`.
            system_metrics: Whether processor, memory, disk, network and GPU figures are logged as well.

        Returns:
            The tracker, whose run exists and holds parameters, tags and data set.

        Raises:
            UserError: The server does not answer, or the run to resume was started with other parameters.
        """
        server = connect(home)
        with explained(server):
            run = find_or_create_run(server, experiment, run_name, reference=resume, link=RESUMED_FROM)
            store_params(server, run, params)
            store_dataset(server, run, dataset)
            store_tags(server, run, tags_of_the_process() | dict(tags))
            server.client.update_run(run.info.run_id, status="RUNNING")
        tracker = cls(server, run, experiment=experiment, run_name=run_name, owner=True, stage="train")
        if system_metrics:
            tracker._start_monitor(resumed=bool(run.data.metrics))
        return tracker

    @classmethod
    def join(
        cls,
        reference: Mapping,
        *,
        home: Path,
        stage: str,
        tags: Mapping[str, str] | None = None,
        experiment: str = "msclnet",
    ) -> "Tracker":
        """Lets a later stage log into the run of the training.

        A server that does not know the run (fresh clone, other address) gets one new run for it, which all
        later stages share and whose tag `linked_to` names the original.

        Args:
            reference: The training tracker's `reference`.
            home: As for `start`.
            stage: Name of the stage; how it ended is put into the tag `stage.<name>`. The status of a
                finished training run stays as it is.
            tags: More tags.
            experiment: Where a new run goes if the reference does not tell.

        Raises:
            UserError: The server does not answer, or the reference holds no run id.
        """
        server = connect(home)
        experiment = str(reference.get("experiment") or experiment)
        run_name = str(reference.get("run_name") or "linked")
        with explained(server):
            run = find_or_create_run(server, experiment, run_name, reference=reference, link=LINKED_TO)
            store_tags(server, run, {f"stage.{stage}": "RUNNING", **(tags or {})})
        owner = LINKED_TO in run.data.tags
        return cls(server, run, experiment=experiment, run_name=run_name, owner=owner, stage=stage)

    @property
    def reference(self) -> dict[str, str]:
        """What later stages and a resumed training need to find this run; free of secrets, ready for JSON."""
        return {
            "tracking_uri": self.server.masked_uri,
            "experiment": self._experiment,
            "experiment_id": self.experiment_id,
            "run_name": self._run_name,
            "run_id": self.run_id,
        }

    def log_metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Queues metrics; never raises, never waits. What is no number is left out with a warning."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = []
        for name, value in values.items():
            try:
                metrics.append(Metric(naming.metric(name), float(value), now, int(step)))
            except (TypeError, ValueError):
                if name not in self._no_numbers:
                    self._no_numbers.add(name)
                    logger.warning("the metric %s is no number and is not logged: %r", name, value)
        self._outbox.put_metrics(metrics)

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Queues a file, or a folder with its files, for the run's artifacts.

        The file is read when its turn comes: it must stay as it is until `finish`.
        """
        client = self.server.client
        send = client.log_artifacts if path.is_dir() else client.log_artifact
        self._outbox.put(partial(send, self.run_id, str(path.absolute()), folder))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Queues tags; secrets in addresses are masked."""
        self._outbox.put(partial(self.server.client.log_batch, self.run_id, tags=tag_entities(tags)))

    def finish(self, status: Status) -> None:
        """Sends what is left and ends the run; later calls do nothing.

        Waits at most a minute (after a kill ten seconds). What could not be delivered is warned about, with
        the command that sends it later; `delivered` tells as well.
        """
        if self._finished:
            return
        self._finished = True
        client = self.server.client
        if self._monitor is not None:
            # It joins a thread that may hang in a request, so it gets a thread of its own and a limit.
            stopper = threading.Thread(target=self._monitor.finish, daemon=True)
            stopper.start()
            stopper.join(5.0)
        self.set_tags({f"stage.{self._stage}": status})
        if self._owner:
            self._outbox.put(partial(client.set_terminated, self.run_id, status))
        self.delivered = self._outbox.close(_SECONDS_TO_FINISH[status])
        if not self.delivered:
            logger.warning("MLflow at %s did not get everything. %s", self.server.masked_uri, RESEND)

    def lifetime(self) -> AbstractContextManager[None]:
        """Ends the run however the block ends: SIGTERM and Ctrl-C as KILLED, an exception as FAILED."""
        return lifetime(self.finish)

    def _send_metrics(self, metrics: Sequence["Metric"]) -> None:
        self.server.client.log_batch(self.run_id, metrics=metrics)

    def _start_monitor(self, *, resumed: bool) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        self._monitor = SystemMetricsMonitor(
            self.run_id, resume_logging=resumed, tracking_uri=self.server.uri
        )
        self._monitor.start()
