"""Facts of the machine, as the environment tells them."""

import os
from pathlib import Path

import pytest
import torch

from msclnet.errors import UserError
from pipelines import machine

VARIABLES = ("MSCLNET_HOME", "DVC_ROOT", "MSCLNET_DEVICE", "MSCLNET_WORKERS", "MSCLNET_THREADS")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert machine.home() == tmp_path.resolve()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "root"))
    assert machine.home() == (tmp_path / "root").resolve()
    monkeypatch.setenv("MSCLNET_HOME", str(tmp_path / "home"))
    assert machine.home() == (tmp_path / "home").resolve()
    monkeypatch.setenv("MSCLNET_HOME", "relative")
    assert machine.home() == (tmp_path / "relative").resolve()
    monkeypatch.setenv("MSCLNET_HOME", "")
    assert machine.home() == (tmp_path / "root").resolve()


def test_cores() -> None:
    allowed = os.sched_getaffinity(0)
    assert machine.cores() == len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert machine.cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(("text", "expected"), [(None, 3), ("", 3), ("0", 0), ("12", 12), ("007", 7)])
def test_workers(monkeypatch: pytest.MonkeyPatch, text: str | None, expected: int) -> None:
    if text is not None:
        monkeypatch.setenv("MSCLNET_WORKERS", text)
    assert machine.workers(3) == expected


@pytest.mark.parametrize("text", ["two", "-1", "1.5", " ", "²", "1e3"])
@pytest.mark.parametrize("variable", ["MSCLNET_WORKERS", "MSCLNET_THREADS"])
def test_numbers_that_are_none(monkeypatch: pytest.MonkeyPatch, variable: str, text: str) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(UserError, match=f"{variable}: expected a number of 0 or more") as caught:
        machine.workers(3) if variable == "MSCLNET_WORKERS" else machine.device()
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", [None, "", "auto"])
def test_auto_takes_what_is_there(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    if text is not None:
        monkeypatch.setenv("MSCLNET_DEVICE", text)
    assert machine.device().type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSCLNET_DEVICE", "cpu")
    assert machine.device() == torch.device("cpu")


@pytest.mark.parametrize("text", ["gpu", "cuda:99", "cpu:x", "meta", "-", "CPU "])
def test_devices_that_do_not_work(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("MSCLNET_DEVICE", text)
    with pytest.raises(UserError, match=r"MSCLNET_DEVICE: .*set auto, cpu or cuda") as caught:
        machine.device()
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSCLNET_DEVICE", "cuda")
    with pytest.raises(UserError, match="MSCLNET_DEVICE: 'cuda' cannot be used here"):
        machine.device()


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        monkeypatch.setenv("MSCLNET_THREADS", "1")
        machine.device()
        assert torch.get_num_threads() == 1
        monkeypatch.setenv("MSCLNET_THREADS", "0")
        machine.device()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
