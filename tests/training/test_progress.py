"""Progress bars count, and stay quiet when told so."""

import io
import sys

import pytest

from msclnet.progress import LOG_INTERVAL, progress_bar


def test_bar_counts_from_where_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress_bar(total=10, initial=4, desc="train", unit="step") as bar:
        bar.update()
        bar.update(5)
    assert bar.n == 10
    assert "train" in str(bar)
    assert "10/10" in str(bar)


def test_a_log_gets_few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    with progress_bar(total=10_000, desc="embed", unit="image") as bar:
        assert bar.mininterval == LOG_INTERVAL
        for _ in range(10_000):
            bar.update()
    assert 0 < log.getvalue().count("\r") < 10


def test_a_disabled_bar_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(total=10, desc="embed", unit="image", disable=True) as bar:
        bar.update(10)
    assert capsys.readouterr() == ("", "")
