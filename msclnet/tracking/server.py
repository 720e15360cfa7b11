"""Where MLflow is: the address, the check that it answers, and the creation of the local database."""

import fcntl
import logging
import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from msclnet.errors import UserError
from msclnet.tracking.masking import brief, mask, mask_logs

if TYPE_CHECKING:
    from mlflow import MlflowClient

PROBE_SECONDS = 5

# MLflow's own defaults retry for minutes, report usage, and would unpickle models. The user's values win.
_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


@dataclass(frozen=True)
class Server:
    """An MLflow store that has answered.

    Attributes:
        uri: Its address as given, secrets included: never print it.
        client: MLflow's client for it.
        home: The folder that `connect` was given.
        artifact_root: Where new experiments keep their files; `None` leaves that to the server.
    """

    uri: str
    client: "MlflowClient"
    home: Path
    artifact_root: str | None

    @property
    def masked_uri(self) -> str:
        """The address, fit for logs and files."""
        return mask(self.uri)


def prepare_environment() -> None:
    """Sets the environment defaults that MLflow reads, and masks its logs."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    if os.environ["MLFLOW_LOGGING_LEVEL"] == _DEFAULTS["MLFLOW_LOGGING_LEVEL"]:
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # in case it was imported before
    mask_logs()


def tracking_uri(home: Path) -> str:
    """MLFLOW_TRACKING_URI, or else the SQLite file `<home>/mlruns/mlflow.db`."""
    given = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    return given or f"sqlite:///{home.resolve() / 'mlruns' / 'mlflow.db'}"


def exists(home: Path) -> bool:
    """Whether something can be stored there already: a server is named, or the local database is there."""
    uri = tracking_uri(home)
    return not uri.startswith("sqlite:///") or _database(uri).exists()


def connect(home: Path) -> Server:
    """Finds the MLflow store, makes sure that it answers, and creates the local database where it is missing.

    Two processes may call this at once on a fresh folder: the second waits for the first one's database.

    Args:
        home: Folder for the local database and its artifacts; unused when MLFLOW_TRACKING_URI names a server.

    Returns:
        The store, ready for use.

    Raises:
        UserError: The store does not answer within seconds, or is of a kind that MLflow no longer writes.
    """
    prepare_environment()
    uri = tracking_uri(home)
    scheme = uri.partition("://")[0].partition("+")[0].lower()
    try:
        if scheme == "sqlite":
            return _open_sqlite(uri, home)
        if scheme in ("http", "https"):
            _probe_http(uri)
        elif scheme in _DATABASE_PORTS:
            _probe_database(uri)
        elif not scheme.startswith("databricks"):
            raise UserError(
                f"MLFLOW_TRACKING_URI={mask(uri)}: MLflow no longer writes to plain folders. Use "
                "http://host:port, sqlite:////absolute/path/mlflow.db, or unset it for the local database."
            )
        return _first_answer(uri, home, artifact_root=None)
    except UserError:
        raise
    except Exception as error:  # requests, SQLAlchemy, MLflow and database drivers share no base class
        raise UserError(_no_answer(uri, error)) from None


def find_or_create_experiment(server: Server, name: str) -> str:
    """Returns the id of the experiment of that name; a deleted one is restored."""
    from mlflow import MlflowException

    experiment = server.client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return server.client.create_experiment(name, artifact_location=server.artifact_root)
        except MlflowException:
            experiment = server.client.get_experiment_by_name(name)  # another process was faster
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        server.client.restore_experiment(experiment.experiment_id)
    return experiment.experiment_id


def _first_answer(uri: str, home: Path, *, artifact_root: str | None) -> Server:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    client.search_experiments(max_results=1)
    return Server(uri, client, home, artifact_root)


def _open_sqlite(uri: str, home: Path) -> Server:
    database = _database(uri)
    # MLflow creates its tables without looking whether somebody else is just doing so.
    with file_lock(database.with_name(database.name + ".lock")):
        # A file that is no database makes MLflow retry for two minutes; SQLite says so at once.
        connection = sqlite3.connect(database)
        try:
            connection.execute("PRAGMA schema_version")
        finally:
            connection.close()
        return _first_answer(uri, home, artifact_root=(database.parent / "artifacts").as_uri())


def _database(uri: str) -> Path:
    return Path(uri.partition(":///")[2].partition("?")[0]).absolute()


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Holds a lock between processes; the folder is created where missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)  # released by the system when the process dies
        yield


def _probe_http(uri: str) -> None:
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    # Any answer will do here, even a refusal: the first real request tells what is wrong with it.
    http_request(
        get_default_host_creds(uri),
        "/health",
        "GET",
        max_retries=0,
        timeout=PROBE_SECONDS,
        raise_on_status=False,
    )


def _probe_database(uri: str) -> None:
    import sqlalchemy

    url = sqlalchemy.make_url(uri)
    if url.host:
        port = url.port or _DATABASE_PORTS[url.get_backend_name()]
        socket.create_connection((url.host, port), timeout=PROBE_SECONDS).close()
    engine = sqlalchemy.create_engine(url)
    engine.connect().close()  # a wrong password would make MLflow retry for two minutes
    engine.dispose()


def _no_answer(uri: str, error: Exception) -> str:
    reason = brief(error)
    if os.environ.get("MLFLOW_TRACKING_URI", "").strip():
        return (
            f"MLFLOW_TRACKING_URI={mask(uri)} cannot be used: {reason}. Start that server, correct the "
            "variable, or unset it to track into the local database."
        )
    return (
        f"{mask(uri)} cannot be used as MLflow's database: {reason}. Make its folder writable, move the file "
        "away (it is then created anew), or set MLFLOW_TRACKING_URI to a server."
    )
