"""Finds the MLflow store, checks that it answers, and creates the project's own database."""

import logging
import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from filelock import FileLock

from msclnet.errors import UserError
from msclnet.tracking.masking import brief, mask

if TYPE_CHECKING:
    from mlflow import MlflowClient

PROBE_SECONDS = 5
UNKNOWN = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # error codes for what is not there

# MLflow's own defaults retry for minutes, report usage, and would unpickle models. The user's values win.
_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}

# Columns of MLflow's database that hold absolute addresses of artifacts.
_LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


@dataclass(frozen=True)
class Server:
    """An MLflow store that has answered."""

    uri: str  # as given, login included: never print it
    client: "MlflowClient"
    home: Path  # the folder that `connect` was given
    artifact_root: str | None  # where new experiments keep their files; None leaves that to the server

    @property
    def masked_uri(self) -> str:
        """The address, fit for logs and files."""
        return mask(self.uri)


def tracking_uri(home: Path) -> str:
    """MLFLOW_TRACKING_URI, or else the SQLite file `<home>/mlruns/mlflow.db`."""
    return os.environ.get("MLFLOW_TRACKING_URI", "").strip() or _own_uri(home)


def _own_uri(home: Path) -> str:
    path = str(home.resolve() / "mlruns" / "mlflow.db")
    encoded = path.replace("%", "%25").replace("?", "%3F")  # SQLAlchemy decodes the path
    # MLflow creates the parent folder of a `sqlite:` path as it stands, which would be another one.
    return f"sqlite{'+pysqlite' * (encoded != path)}:///{encoded}"


def exists(home: Path) -> bool:
    """Whether a server is named or the local database is there."""
    uri = tracking_uri(home)
    return not uri.startswith("sqlite") or _database(uri).exists()


def connect(home: Path) -> Server:
    """Finds the MLflow store, checks that it answers, and creates the local database where it is missing.

    Two processes may call this at once on a fresh folder: the second waits for the first one's database. Where
    the folder was moved, the addresses of the artifacts in its own database are corrected. `home` is the folder for the
    local database and its artifacts; unused when MLFLOW_TRACKING_URI names a server.

    Raises:
        UserError: The store does not answer within seconds, or is of a kind that MLflow no longer writes.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
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


@contextmanager
def explained(server: Server) -> Iterator[None]:
    """Turns the server's errors within the block into UserError, without the login of its address."""
    from mlflow import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:
        raise UserError(f"MLflow at {server.masked_uri} failed: {brief(error)}") from None


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

    _quieten_mlflow()
    client = MlflowClient(uri)
    client.search_experiments(max_results=1)
    return Server(uri, client, home, artifact_root)


def _quieten_mlflow() -> None:
    """MLflow's loggers print what fails in the background, with the address: this project warns once itself."""
    logger = logging.getLogger("mlflow")
    if os.environ["MLFLOW_LOGGING_LEVEL"] == _DEFAULTS["MLFLOW_LOGGING_LEVEL"]:
        logger.setLevel(logging.WARNING)  # in case it was imported before
    for handler in logger.handlers:
        if _mask_record not in handler.filters:
            handler.addFilter(_mask_record)


def _mask_record(record: logging.LogRecord) -> bool:
    record.msg, record.args, record.exc_info = mask(record.getMessage()), None, None
    return True


def _open_sqlite(uri: str, home: Path) -> Server:
    database = _database(uri)
    artifact_root = (database.parent / "artifacts").as_uri()
    database.parent.mkdir(parents=True, exist_ok=True)
    # MLflow creates its tables without a lock of its own.
    with FileLock(f"{database}.lock"):
        # A file that is no database makes MLflow retry for two minutes; SQLite fails at once.
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA schema_version")
            if uri == _own_uri(home):
                _correct_locations(connection, artifact_root)
        return _first_answer(uri, home, artifact_root=artifact_root)


def _correct_locations(connection: sqlite3.Connection, artifact_root: str) -> None:
    """Rewrite the artifact addresses of a project that was moved or copied: MLflow stores absolute ones."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "experiments" not in tables:
        return
    known = connection.execute("SELECT DISTINCT artifact_location FROM experiments")
    former = [
        root for (root,) in known if root and root.endswith("/mlruns/artifacts") and root != artifact_root
    ]
    with connection:  # one transaction
        for root in former:
            for table, column in _LOCATIONS:
                if table in tables:
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                        f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                        (artifact_root, len(root) + 1, root, len(root) + 1, f"{root}/"),
                    )


def _database(uri: str) -> Path:
    return Path(unquote(uri.partition(":///")[2].partition("?")[0])).absolute()


def _probe_http(uri: str) -> None:
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    # Any answer will do here, even a refusal: the first real request reports what is wrong with it.
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
        "away (it is then created again), or set MLFLOW_TRACKING_URI to a server."
    )
