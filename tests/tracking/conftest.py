"""Fixtures: a fresh local database for each test, a tracker, a real MLflow server."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow_stores import DATASET, MlflowServer
from stand_in import log_stand_in

from msclnet.tracking.run import Tracker
from msclnet.tracking.server import connect


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Creating the tables takes seconds: once is enough."""
    home = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        connect(home).client._tracking_client.store.engine.dispose()  # pyright: ignore
    return home / "mlruns" / "mlflow.db"


@pytest.fixture
def home(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home with its database. The working folder is elsewhere, and must be left empty."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "home with a space"
    (folder / "mlruns").mkdir(parents=True)
    shutil.copy(empty_database, folder / "mlruns" / "mlflow.db")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    yield folder
    assert list(elsewhere.iterdir()) == []


@pytest.fixture
def start(home: Path) -> Iterator[Callable[..., Tracker]]:
    """Starts a tracker with small defaults; every one is finished at the end."""
    begun: list[Tracker] = []

    def begin(**changes) -> Tracker:
        arguments = {
            "home": home,
            "experiment": "tests",
            "run_name": "small",
            "params": {"train": {"epochs": 3}},
            "tags": {},
            "dataset": DATASET,
            "system_metrics": False,
        }
        begun.append(Tracker.start(**(arguments | changes)))
        return begun[-1]

    yield begin
    for tracker in begun:
        tracker.finish("FINISHED")


@pytest.fixture
def mlflow_server(tmp_path: Path, empty_database: Path) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path / "server", empty_database)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def tiny_model(tmp_path: Path) -> Callable[..., str | None]:
    """Logs and registers a model that can be stored but not run."""
    return lambda tracker, **changes: log_stand_in(tracker, tmp_path / "stand-in", **changes)
