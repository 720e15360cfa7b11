"""What the tests read and run next to the code under test: the database itself, and a real MLflow server."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msclnet.tracking.run import Tracker
from msclnet.tracking.run_setup import DatasetInfo

DATASET = DatasetInfo("synthetic", "5e" * 32, {"train_images": 8, "train_identities": 2})


def start_tracker(home: Path, **changes: Any) -> Tracker:
    arguments = {
        "home": home,
        "experiment": "tests",
        "run_name": "small",
        "params": {"train": {"epochs": 3}},
        "tags": {},
        "dataset": DATASET,
        "system_metrics": False,
    }
    return Tracker.start(**(arguments | changes))


@dataclass(frozen=True)
class RegisteredNetwork:
    """A network of smoke's size, champion of the registered model `network`, and what it must compute."""

    tracker: Tracker
    version: str
    weights: Path
    spec: dict[str, Any]
    images: np.ndarray
    infrared: np.ndarray
    vectors: np.ndarray


def stored_metrics(database: Path, run_id: str) -> list[tuple[str, int, float]]:
    """Every stored point, read past MLflow."""
    with sqlite3.connect(database) as connection:
        rows = connection.execute(
            "SELECT key, step, value FROM metrics WHERE run_uuid = ? ORDER BY key, step", (run_id,)
        )
        return rows.fetchall()


def run_status(database: Path, run_id: str) -> str:
    with sqlite3.connect(database) as connection:
        return connection.execute("SELECT status FROM runs WHERE run_uuid = ?", (run_id,)).fetchone()[0]


class MlflowServer:
    """`mlflow server` on a free port of this machine, over its own copy of the empty database."""

    def __init__(self, folder: Path, empty_database: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.database = folder / "server.db"
        shutil.copy(empty_database, self.database)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.database}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
        environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        for _ in range(6000):
            assert self._process.poll() is None, (self.folder / "server.log").read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        raise AssertionError("the MLflow server did not start")

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def stop(self) -> None:
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
