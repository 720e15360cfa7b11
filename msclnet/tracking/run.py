"""One MLflow run per trained model: started by training, joined by the later stages, under a grid's run."""

import json
import logging
import os
import queue
import re
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from msclnet.errors import UserError
from msclnet.tracking.masking import brief, mask
from msclnet.tracking.server import Server, connect, exists, explained, find_or_create_experiment

if TYPE_CHECKING:
    from mlflow.entities import Run

Status = Literal["FINISHED", "FAILED", "KILLED"]

# Columns of a history that describe the machine, not the method: MLflow shows what begins with system/ apart.
MACHINE_METRICS = ("images_per_second", "share_waiting_for_input", "gpu_memory_gib", "seconds_left")
GRID = "grid"  # tag of a grid's run: the grid's name
RESUMED_FROM = "resumed_from"
LINKED_TO = "linked_to"
RESEND = (
    "Afterwards, send the missing metrics with: msclnet resend HISTORY.csv RUN.json "
    "(the run's history and its run.json)."
)

_SECONDS_TO_FINISH: dict[Status, float] = {"FINISHED": 60.0, "FAILED": 15.0, "KILLED": 10.0}
_SECONDS_BETWEEN_ATTEMPTS = 30.0
_ENTITIES_PER_REQUEST = 100  # MLflow refuses more parameters at once
_PARAM_LENGTH = 6000
_KILLED_BY_SIGNAL = (143, 130)

logger = logging.getLogger("msclnet.tracking")


@dataclass(frozen=True)
class DatasetInfo:
    """The data set a model was trained on.

    Attributes:
        name: For people.
        digest: Hash of its contents; two data sets are the same when their digests are.
        counts: Numbers worth showing, e.g. images and identities of each split.
    """

    name: str
    digest: str
    counts: Mapping[str, int]


class Tracker:
    """A run on the MLflow server, written to in the background.

    Made by `start`, `join`, `group` or `attach`. After that no method raises or waits because of the server, except
    that `finish` waits a limited time for what is still unsent: the files that the stages write are the record.
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
        self._sender = _Sender(server.masked_uri)

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

        Returns:
            The tracker, whose run exists and holds parameters, tags and data set.

        Raises:
            UserError: The server does not answer, or the run to resume was started with other parameters.
        """
        server = connect(home)
        with explained(server):
            run = find_or_create_run(server, experiment, run_name, reference=resume, link=RESUMED_FROM)
            _store_params(server, run, params)
            _store_dataset(server, run, dataset)
            _store_tags(server, run, _process_tags() | dict(tags))
            server.client.update_run(run.info.run_id, status="RUNNING")
        tracker = cls(server, run, experiment=experiment, owner=True, stage="train")
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
    ) -> "Tracker":
        """Lets a later stage log into the run of the training.

        A server that does not have the run (fresh clone, other address) gets one new run for it, which all
        later stages share and whose tag `linked_to` names the original.

        Args:
            reference: The training tracker's `reference`.
            home: As for `start`.
            stage: Name of the stage; how it ended is put into the tag `stage.<name>`. The status of a
                finished training run stays as it is.
            tags: More tags.

        Raises:
            UserError: The server does not answer, or the reference holds no run id.
        """
        server = connect(home)
        with explained(server):
            run = referenced_run(server, reference)
            _store_tags(server, run, {f"stage.{stage}": "RUNNING", **(tags or {})})
        owner = LINKED_TO in run.data.tags
        return cls(server, run, experiment=str(reference.get("experiment") or ""), owner=owner, stage=stage)

    @classmethod
    def group(cls, *, home: Path, experiment: str, name: str, tags: Mapping[str, str]) -> "Tracker":
        """Begins or continues the run of a grid; its trainings name it in the tag `mlflow.parentRunId`.

        Args:
            home: As for `start`.
            experiment: That of the trainings: the UI nests runs within one experiment alone.
            name: Of the grid.
            tags: More tags.

        Raises:
            UserError: The server does not answer.
        """
        server = connect(home)
        with explained(server):
            experiment_id = find_or_create_experiment(server, experiment)
            found = server.client.search_runs([experiment_id], f"tags.{GRID} = '{name}'", max_results=1)
            run = found[0] if found else server.client.create_run(experiment_id, run_name=name)
            _store_tags(server, run, {**_process_tags(), GRID: name, **tags})
            server.client.update_run(run.info.run_id, status="RUNNING")
        return cls(server, run, experiment=experiment, owner=True)

    @classmethod
    def attach(cls, run_id: str, *, home: Path) -> "Tracker":
        """An existing run, for more files; its status stays as it is.

        Raises:
            UserError: The server does not answer, or has no such run.
        """
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
        """Queues a file, or a folder with its files, for the run's artifacts.

        The file is read when its turn comes: it must stay as it is until `finish`.
        """
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
        self._sender.put(partial(self.server.client.log_batch, self.run_id, tags=_tag_entities(tags)))

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
            if stop.code in _KILLED_BY_SIGNAL:
                status = "KILLED"
            elif not stop.code:
                status = "FINISHED"
            raise
        finally:
            self.finish(status)

    def _start_monitor(self, *, resumed: bool) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        self._monitor = SystemMetricsMonitor(
            self.run_id, resume_logging=resumed, tracking_uri=self.server.uri
        )
        self._monitor.start()


def grid_runs(*, home: Path, names: Collection[str]) -> list[Tracker]:
    """The runs of grids with these names, in any experiment; neither a run nor a database is created.

    Args:
        home: Folder of the local database.
        names: Of the grids.

    Raises:
        UserError: The server does not answer.
    """
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


def referenced_run(server: Server, reference: Mapping) -> "Run":
    """The run of a `Tracker.reference`, or the one that stands for it on this server; created where missing."""
    experiment = str(reference.get("experiment") or "msclnet")
    run_name = str(reference.get("run_name") or "linked")
    return find_or_create_run(server, experiment, run_name, reference=reference, link=LINKED_TO)


def find_or_create_run(
    server: Server, experiment: str, run_name: str, *, reference: Mapping | None, link: str
) -> "Run":
    """The referenced run, or the run already made in its place, or a new one that names it in a tag."""
    former = ""
    if reference is not None:
        former = str(reference.get("run_id", ""))
        if not re.fullmatch(r"[\w-]{1,64}", former):
            raise UserError(f"run.json: run_id is {former!r}, which is no MLflow run; run the training again")
        if (run := _known_run(server, former)) is not None:
            return run
    experiment_id = find_or_create_experiment(server, experiment)
    if former:
        found = server.client.search_runs([experiment_id], f"tags.{link} = '{former}'", max_results=1)
        if found:
            return found[0]
    tags = {link: former} if former else {}
    return server.client.create_run(experiment_id, run_name=run_name, tags=tags)


def _known_run(server: Server, run_id: str) -> "Run | None":
    from mlflow import MlflowException

    try:
        run = server.client.get_run(run_id)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None


def _store_params(server: Server, run: "Run", params: Mapping[str, object]) -> None:
    """Stores what is new; refuses what contradicts the run to resume, for parameters are immutable."""
    from mlflow.entities import Param

    values = {name: value[:_PARAM_LENGTH] for name, value in _flatten(params)}
    for name, value in values.items():
        former = run.data.params.get(name, value)
        if former != value:
            raise UserError(
                f"{name}: the run to resume ({run.info.run_id}) was started with {former!r}, now it is "
                f"{value!r}. Set it back, or begin a new run without the former checkpoint."
            )
    new = [Param(name, value) for name, value in values.items() if name not in run.data.params]
    for first in range(0, len(new), _ENTITIES_PER_REQUEST):
        server.client.log_batch(run.info.run_id, params=new[first : first + _ENTITIES_PER_REQUEST])


def _flatten(params: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """`{"train": {"epochs": 3}}` gives ("train.epochs", "3"); lists become JSON."""
    for name, value in params.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            text = json.dumps(value, default=str) if isinstance(value, list | tuple | Mapping) else str(value)
            yield f"{prefix}{name}", mask(text)


def _store_dataset(server: Server, run: "Run", dataset: DatasetInfo) -> None:
    """Stores the data set as the run's input, which the UI shows and searches, and as two tags."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    entity = Dataset(
        name=dataset.name,
        digest=dataset.digest[:36],  # MLflow takes no longer one; the whole goes into a tag
        source_type="local",
        source=json.dumps({"uri": dataset.name}),
        profile=json.dumps(dict(dataset.counts)),
    )
    training = InputTag("mlflow.data.context", "training")
    server.client.log_inputs(run.info.run_id, [DatasetInput(entity, tags=[training])])
    _store_tags(server, run, {"dataset": dataset.name, "dataset_digest": dataset.digest})


def _store_tags(server: Server, run: "Run", tags: Mapping[str, str]) -> None:
    server.client.log_batch(run.info.run_id, tags=_tag_entities(tags))


def _tag_entities(tags: Mapping[str, str]) -> list:
    from mlflow.entities import RunTag

    if "git_commit" in tags:  # under this name the UI shows it in its own column
        tags = {**tags, "mlflow.source.git.commit": tags["git_commit"]}
    return [RunTag(name, mask(str(value))) for name, value in tags.items()]


def _process_tags() -> dict[str, str]:
    """What MLflow's UI shows as a run's source and user."""
    return {
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": Path(sys.argv[0]).name,
        "mlflow.user": os.environ.get("USER", "unknown"),
    }


class _Sender:
    """Calls the server in one background thread, in order; a call that fails is tried again while the run lasts.

    MLflow's own asynchronous queue takes metrics and tags only, reports each failed batch as an error in the log,
    forgets it, and waits without a limit for a server that hangs when the process ends.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._calls: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._lost = False
        self._warned = False
        # A daemon: a request that hangs must not keep the process alive.
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def put(self, call: Callable[[], object]) -> None:
        self._calls.put(call)

    def close(self, seconds: float) -> bool:
        """Wait until all is sent, an attempt fails, or the time is over; whether all was sent."""
        self._calls.put(None)
        self._closing.set()
        self._thread.join(seconds)
        return not (self._thread.is_alive() or self._lost)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            last_attempt = self._closing.is_set()
            while not self._done(call):
                if last_attempt:
                    self._lost = True
                    return
                last_attempt = self._closing.wait(_SECONDS_BETWEEN_ATTEMPTS)

    def _done(self, call: Callable[[], object]) -> bool:
        """Whether the call needs no further attempt: it succeeded, or the server refused it."""
        try:
            call()
        except Exception as error:  # clients, drivers and file systems share no base class
            self._lost |= _is_refusal(error)
            if _is_refusal(error):
                logger.warning("MLflow at %s refused to store something: %s", self._address, brief(error))
            elif not self._warned:
                self._warned = True
                logger.warning(
                    "MLflow at %s does not answer (%s). The work goes on and its files are the record. %s",
                    self._address,
                    brief(error),
                    RESEND,
                )
            return _is_refusal(error)
        return True


def _is_refusal(error: Exception) -> bool:
    """Whether trying again is useless: the server understood and said no, or a file to send is not there."""
    from mlflow import MlflowException

    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
        return 400 <= status < 500 and status not in (408, 429)
    return isinstance(error, (FileNotFoundError, PermissionError, TypeError, ValueError))
