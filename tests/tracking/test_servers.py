"""Where MLflow is: servers that are down, hang, come back or die; the local database; a project that was moved."""

import csv
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mlflow_stores import MlflowServer, run_status, start_tracker, stored_metrics

from msclnet.errors import UserError
from msclnet.tracking.champion import find_aliased, set_champion
from msclnet.tracking.registered_model import downloaded_model
from msclnet.tracking.registry import add_file, read_file, set_candidate
from msclnet.tracking.resend import Resent, resend
from msclnet.tracking.run import Tracker
from msclnet.tracking.server import connect

Start = Callable[..., Tracker]
PASSWORD = "hunter2x"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_a_server_that_is_down_stops_the_start(
    start: Start, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}://me:{PASSWORD}@127.0.0.1:{port}")
    with pytest.raises(UserError) as caught:
        start()
    message = str(caught.value)
    assert f"MLFLOW_TRACKING_URI={scheme}://***@127.0.0.1:{port}" in message
    assert "refused" in message
    assert "unset it" in message
    assert PASSWORD not in message
    assert caught.value.__suppress_context__  # a printed traceback would show the address


def test_a_server_that_hangs_stops_the_start(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msclnet.tracking.server.PROBE_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        with pytest.raises(UserError, match=rf"MLFLOW_TRACKING_URI=http://127.0.0.1:{port}.*timed? ?out"):
            start()


def test_a_plain_folder_is_no_address(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    with pytest.raises(UserError, match=r"MLFLOW_TRACKING_URI=\./mlruns: .*sqlite"):
        start()


def test_a_broken_local_database_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    database = tmp_path / "mlruns" / "mlflow.db"
    database.parent.mkdir()
    database.write_bytes(b"this is no database, and it is long enough to be seen as none" * 100)
    with pytest.raises(UserError, match=r"mlflow\.db cannot be used.*not a database.*move the file"):
        connect(tmp_path)


CREATOR = """
import os, sys, time
from pathlib import Path
from msclnet.tracking import server

mine, other, home = (Path(name) for name in sys.argv[1:])

def migrate(uri, home, *, artifact_root):
    os.mkdir(home / "migrating")  # fails while another process is here
    time.sleep(0.3)
    os.rmdir(home / "migrating")

server._first_answer = migrate
mine.touch()
while not other.exists():
    time.sleep(0.005)
server.connect(home)
"""


def test_two_processes_create_the_database_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wait stands for MLflow's migrations, which the session's database has been through."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    names = [tmp_path / "ready-0", tmp_path / "ready-1"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CREATOR, str(mine), str(other), str(tmp_path)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for mine, other in (names, names[::-1])
    ]
    errors = [process.communicate(timeout=900)[1] for process in processes]
    assert errors == ["", ""]


def stored_locations(database: Path) -> list[str]:
    """Every text in the database that is an address of a file, read past MLflow."""
    found = []
    with sqlite3.connect(database) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            for row in connection.execute(f"SELECT * FROM {table}"):
                found += [cell for cell in row if isinstance(cell, str) and cell.startswith("file:")]
    return found


@pytest.mark.parametrize("way", ["moved", "copied"])
def test_a_project_that_was_moved_or_copied_finds_its_files_again(
    way: str,
    tmp_path: Path,
    empty_database: Path,
    log_small_model: Callable[..., str | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mlflow.tracking._tracking_service import utils

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    old, new = tmp_path / "old 50% ü?", tmp_path / "new [1] 'x' %20"
    (old / "mlruns").mkdir(parents=True)
    shutil.copy(empty_database, old / "mlruns" / "mlflow.db")
    curve = tmp_path / "curve.txt"
    curve.write_text("curve")
    first = start_tracker(old)
    first.log_artifact(curve)
    version = log_small_model(first)
    set_champion(first.server, str(version))
    outside = (tmp_path / "else where").as_uri()
    first.server.client.create_registered_model("foreign")
    first.server.client.create_model_version("foreign", outside)
    first.finish("FINISHED")

    shutil.move(old, new) if way == "moved" else shutil.copytree(old, new)
    before = sorted(path for path in tmp_path.rglob("*") if new not in path.parents)
    utils._artifact_repos_cache.clear()  # as in a new process
    with downloaded_model("models:/msclnet@champion", home=new) as model:
        assert model.spec == {"tensor": "matrix"}
    second = start_tracker(new, resume=first.reference)
    second.log_artifact(curve, "again")
    again = log_small_model(second)
    set_champion(second.server, str(again))
    second.finish("FINISHED")

    assert second.run_id == first.run_id
    files = new / "mlruns" / "artifacts" / first.run_id / "artifacts"
    assert sorted(path.relative_to(files).as_posix() for path in files.rglob("*.txt")) == [
        "again/curve.txt",
        "curve.txt",
    ]
    assert sorted(path for path in tmp_path.rglob("*") if new not in path.parents) == before
    if way == "moved":
        assert not old.exists()
    locations = stored_locations(new / "mlruns" / "mlflow.db")
    here = [each for each in locations if each.startswith(f"{(new / 'mlruns' / 'artifacts').as_uri()}")]
    assert len(here) >= 8  # of the experiment, the run, two logged models and two versions
    assert outside in locations
    assert not [each for each in locations if each.startswith(f"{old.as_uri()}/")]


def test_a_database_that_the_variable_names_is_left_as_it_is(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder, given in ((old, old), (new, old)):
        if folder == new:
            shutil.move(old, new)
        else:
            (old / "mlruns").mkdir(parents=True)
            shutil.copy(empty_database, old / "mlruns" / "mlflow.db")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlruns/mlflow.db")
        tracker = start_tracker(tmp_path / "home")
        tracker.finish("FINISHED")
        experiment = tracker.server.client.get_experiment(tracker.experiment_id)
        assert experiment.artifact_location == (given / "mlruns" / "artifacts").as_uri()


def write_history(path: Path, rows: list[dict[str, float]]) -> None:
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_training_outlives_its_server(
    start: Start,
    home: Path,
    mlflow_server: MlflowServer,
    log_small_model: Callable[[Tracker], str | None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A server with a password in its address works, hangs, comes back and dies; one server, for starting it
    takes long."""
    address = f"http://me:{PASSWORD}@127.0.0.1:{mlflow_server.port}"
    masked = f"http://***@127.0.0.1:{mlflow_server.port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("msclnet.tracking.sender._SECONDS_BETWEEN_ATTEMPTS", 1.0)
    generator = np.random.default_rng(0)
    rows = [{"epoch": epoch, "loss": float(generator.normal()), "lr": 3e-4 / 7**epoch} for epoch in range(20)]
    history = tmp_path / "history.csv"
    write_history(history, rows)

    def resend_of(tracker: Tracker) -> Resent:
        return resend(history, tracker.reference, home=home)

    def train(tracker: Tracker, epochs: range) -> None:
        for epoch in epochs:
            tracker.log_metrics({name: rows[epoch][name] for name in ("loss", "lr")}, step=epoch)

    def stored(tracker: Tracker) -> list[tuple[str, int, float]]:
        return stored_metrics(mlflow_server.database, tracker.run_id)

    def wait_for(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 900
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    everything = [(name, int(row["epoch"]), row[name]) for name in ("loss", "lr") for row in rows]

    # It works.
    tracker = start(params={"source": address}, tags={"source": address})
    figure = tmp_path / "figure.txt"
    figure.write_text("figure")
    tracker.log_artifact(figure, "figures")
    train(tracker, range(5))
    wait_for(lambda: len(stored(tracker)) == 10)
    wait_for(lambda: bool(list(mlflow_server.folder.rglob("figure.txt"))))
    version = log_small_model(tracker)
    assert version == "1"
    set_candidate(tracker, version, {"rank1": 0.25})
    add_file(tracker, version, figure)
    set_champion(tracker.server, version)
    for name, text in (("figure.txt", "figure"), ("none.txt", None)):
        found = read_file(tracker.server, version, name, name="msclnet", folder=tmp_path / "read")
        assert (found and found.read_text()) == text
    champion = find_aliased(tracker.server, "msclnet")
    assert champion is not None
    assert champion.tags["rank1"] == "0.25"
    with downloaded_model("models:/msclnet@champion", home=home) as model:
        assert model.spec == {"tensor": "matrix"}
    with pytest.raises(UserError, match=re.escape(masked)):
        Tracker.attach("0" * 32, home=home)
    assert caplog.text == ""

    # It hangs: connections are taken and never answered. Then it comes back.
    mlflow_server.signal(signal.SIGSTOP)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    train(tracker, range(5, 20))
    wait_for(lambda: "does not answer" in caplog.text)
    tracker.finish("FINISHED")
    assert not tracker.delivered
    assert caplog.text.count("does not answer") == 1
    assert "msclnet resend" in caplog.text
    assert run_status(mlflow_server.database, tracker.run_id) == "RUNNING"
    mlflow_server.signal(signal.SIGCONT)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    first = resend_of(tracker)
    again = resend_of(tracker)
    assert first.run_id == again.run_id == tracker.run_id
    assert (first.sent + first.present, again.sent, again.present) == (40, 0, 40)
    assert sorted(set(stored(tracker))) == everything
    assert run_status(mlflow_server.database, tracker.run_id) == "FINISHED"

    # It hangs and is back before the end: nothing is missed, and nothing has to be sent by hand.
    caplog.clear()
    third = start()
    mlflow_server.signal(signal.SIGSTOP)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    train(third, range(20))
    wait_for(lambda: "does not answer" in caplog.text)
    mlflow_server.signal(signal.SIGCONT)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    third.finish("FINISHED")
    assert third.delivered
    assert sorted(set(stored(third))) == everything
    assert run_status(mlflow_server.database, third.run_id) == "FINISHED"

    # It dies.
    second = start()
    train(second, range(5))
    wait_for(lambda: len(stored(second)) == 10)
    mlflow_server.stop()
    train(second, range(5, 20))
    second.finish("FINISHED")
    assert not second.delivered
    assert len(stored(second)) == 10
    assert log_small_model(second) is None  # the trained weights are safe: no reason to fail
    for call in (
        lambda: set_champion(second.server, version),
        lambda: resend_of(second),
    ):
        with pytest.raises(UserError, match=re.escape(masked)) as caught:
            call()
        assert PASSWORD not in str(caught.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mlflow_server.database}")  # the same store
    assert resend_of(second).sent == 30
    assert stored(second) == everything
    assert run_status(mlflow_server.database, second.run_id) == "FINISHED"

    # The password is nowhere: not in a log, the database, an artifact, or the server's own log.
    assert tracker.reference["tracking_uri"] == masked
    assert PASSWORD not in caplog.text + str(tracker.reference)
    files = [path for path in mlflow_server.folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".safetensors" for path in files)
    assert [path for path in files if PASSWORD.encode() in path.read_bytes()] == []
