import csv
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mlflow_stores import MlflowServer, run_status, stored_metrics

from msclnet.errors import UserError
from msclnet.tracking.registry import promote, set_candidate
from msclnet.tracking.resend import resend
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


def test_a_broken_local_database_is_named(home: Path) -> None:
    database = home / "mlruns" / "mlflow.db"
    database.write_bytes(b"this is no database, and it is long enough to be noticed as such" * 100)
    with pytest.raises(UserError, match=r"mlflow\.db cannot be used.*not a database.*move the file"):
        connect(home)


def write_history(path: Path, rows: list[dict[str, float]]) -> None:
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_training_outlives_its_server(
    start: Start,
    home: Path,
    mlflow_server: MlflowServer,
    tiny_model: Callable[[Tracker], str | None],
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
    generator = np.random.default_rng(0)
    rows = [{"epoch": epoch, "loss": float(generator.normal()), "lr": 3e-4 / 7**epoch} for epoch in range(20)]
    history = tmp_path / "history.csv"
    write_history(history, rows)

    def train(tracker: Tracker, epochs: range) -> None:
        for epoch in epochs:
            tracker.log_metrics({name: rows[epoch][name] for name in ("loss", "lr")}, step=epoch)

    def stored(tracker: Tracker) -> list[tuple[str, int, float]]:
        return stored_metrics(mlflow_server.database, tracker.run_id)

    def wait_for(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
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
    version = tiny_model(tracker)
    assert version == "1"
    set_candidate(tracker, version, {"rank1": 0.25})
    assert promote(tracker, version, validation_score=0.5, dataset_digest="d").promoted
    champion = tracker.server.client.get_model_version_by_alias("msclnet", "champion")
    assert champion.tags["rank1"] == "0.25"
    assert caplog.text == ""

    # It hangs: connections are taken and never answered. Then it comes back.
    mlflow_server.signal(signal.SIGSTOP)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    train(tracker, range(5, 20))
    wait_for(lambda: "does not answer" in caplog.text)
    tracker.finish("FINISHED")
    assert not tracker.delivered
    assert caplog.text.count("does not answer") == 1
    assert "msclnet.tracking.resend" in caplog.text
    assert run_status(mlflow_server.database, tracker.run_id) == "RUNNING"
    mlflow_server.signal(signal.SIGCONT)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    first = resend(history, tracker.reference, home=home)
    again = resend(history, tracker.reference, home=home)
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
    assert "answers again" in caplog.text
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
    assert tiny_model(second) is None  # the trained weights are safe: no reason to fail
    for call in (
        lambda: promote(second, version, validation_score=0.5, dataset_digest="d"),
        lambda: resend(history, second.reference, home=home),
    ):
        with pytest.raises(UserError, match=re.escape(masked)) as caught:
            call()
        assert PASSWORD not in str(caught.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mlflow_server.database}")  # the same store
    assert resend(history, second.reference, home=home).sent == 30
    assert stored(second) == everything
    assert run_status(mlflow_server.database, second.run_id) == "FINISHED"

    # The password is nowhere: not in a log, the database, an artifact, or the server's own log.
    assert tracker.reference["tracking_uri"] == masked
    assert PASSWORD not in caplog.text + str(tracker.reference)
    files = [path for path in mlflow_server.folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".safetensors" for path in files)
    assert [path for path in files if PASSWORD.encode() in path.read_bytes()] == []
