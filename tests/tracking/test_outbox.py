import logging
import threading
from collections.abc import Sequence

import pytest
from mlflow import MlflowException
from mlflow.entities import Metric

from msclnet.tracking import outbox as outbox_module
from msclnet.tracking.outbox import METRICS_PER_REQUEST, Outbox


def points(count: int, *, first: int = 0) -> list[Metric]:
    return [Metric("loss", float(step), 0, step) for step in range(first, first + count)]


class FakeServer:
    """Keeps what it is sent; can be away."""

    def __init__(self) -> None:
        self.away = False
        self.attempts = 0
        self.received: list[int] = []
        self.sizes: list[int] = []

    def send(self, metrics: Sequence[Metric]) -> None:
        self.attempts += 1
        if self.away:
            raise ConnectionError("http://me:hunter2x@host is away")
        self.sizes.append(len(metrics))
        self.received += [metric.step for metric in metrics]


def test_puts_do_not_wait_for_a_server_that_hangs() -> None:
    answers = threading.Event()
    received: list[int] = []

    def hang(metrics: Sequence[Metric]) -> None:
        answers.wait()
        received.extend(metric.step for metric in metrics)

    box = Outbox(hang, address="x", remedy="")

    def train() -> None:
        for step in range(100):
            box.put_metrics(points(1, first=step))

    training = threading.Thread(target=train, daemon=True)
    training.start()
    training.join(30)
    assert not training.is_alive()
    assert received == []
    assert not box.close(0.2)  # nor does the end wait longer than it is told to
    answers.set()
    assert box.close(30)
    assert received == list(range(100))


def test_what_a_server_missed_is_sent_when_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    server = FakeServer()
    server.away = True
    box = Outbox(server.send, address="x", remedy="do this", pause=0.01)
    calls: list[str] = []
    box.put(lambda: calls.append("tag"))
    for step in range(5):
        box.put_metrics(points(1, first=step))
    while server.attempts < 3:
        threading.Event().wait(0.01)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1  # one for the whole absence, not one for each attempt
    assert "do this" in warnings[0]
    assert "hunter2x" not in warnings[0]
    server.away = False
    assert box.close(30)
    assert server.received == list(range(5))
    assert calls == ["tag"]


def test_close_gives_up_on_an_absent_server() -> None:
    server = FakeServer()
    server.away = True
    box = Outbox(server.send, address="x", remedy="", pause=3600)
    box.put_metrics(points(1))
    assert not box.close(3600)


def test_a_refusal_is_dropped_and_does_not_hold_up_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    server = FakeServer()
    box = Outbox(server.send, address="x", remedy="", pause=3600)

    def refuse() -> None:
        raise MlflowException("no such run", error_code=1001)

    sent: list[str] = []
    box.put(refuse)
    box.put(lambda: sent.append("next"))
    assert not box.close(30)
    assert sent == ["next"]
    assert "no such run" in caplog.text


def test_requests_are_of_bounded_size_and_so_is_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "METRICS_KEPT", 3 * METRICS_PER_REQUEST)
    server = FakeServer()
    server.away = True
    box = Outbox(server.send, address="x", remedy="", pause=0.01)
    box.put_metrics(points(3 * METRICS_PER_REQUEST - 1))
    box.put_metrics(points(2, first=10**6))  # one too many: these are left to the history file
    server.away = False
    assert not box.close(30)
    assert server.received == list(range(3 * METRICS_PER_REQUEST - 1))
    assert max(server.sizes) <= METRICS_PER_REQUEST
