"""Facts of the machine, as the environment tells them."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from msclnet.errors import UserError
from pipelines import settings

VARIABLES = (
    "MSCLNET_HOME",
    "DVC_ROOT",
    "MSCLNET_DEVICE",
    "MSCLNET_PROCESSES",
    "MSCLNET_WORKERS",
    "MSCLNET_THREADS",
    "MSCLNET_KEEP_CHECKPOINTS",
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings.home() == tmp_path.resolve()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "root"))
    assert settings.home() == (tmp_path / "root").resolve()
    monkeypatch.setenv("MSCLNET_HOME", str(tmp_path / "home"))
    assert settings.home() == (tmp_path / "home").resolve()
    monkeypatch.setenv("MSCLNET_HOME", "relative")
    assert settings.home() == (tmp_path / "relative").resolve()
    monkeypatch.setenv("MSCLNET_HOME", "")
    assert settings.home() == (tmp_path / "root").resolve()


def test_cores() -> None:
    allowed = os.sched_getaffinity(0)
    assert settings.cores() == len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert settings.cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def started(monkeypatch: pytest.MonkeyPatch, *, local_rank: int, together: int) -> None:
    """As the process of this number on a machine with so many of them."""
    for name, value in (("RANK", local_rank + 8), ("WORLD_SIZE", 16), ("LOCAL_RANK", local_rank)):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(together))


def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(17)))
    started(monkeypatch, local_rank=1, together=8)
    assert settings.cores() == 2
    started(monkeypatch, local_rank=1, together=32)
    assert settings.cores() == 1
    monkeypatch.delenv("RANK")
    assert settings.cores() == 17


@pytest.mark.parametrize(("text", "expected"), [(None, 1), ("", 1), ("1", 1), ("8", 8)])
def test_processes(monkeypatch: pytest.MonkeyPatch, text: str | None, expected: int) -> None:
    if text is not None:
        monkeypatch.setenv("MSCLNET_PROCESSES", text)
    assert settings.processes() == expected


def test_no_process_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSCLNET_PROCESSES", "0")
    with pytest.raises(UserError, match="MSCLNET_PROCESSES: expected a number of 1 or more"):
        settings.processes()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({"RANK": "0", "WORLD_SIZE": "1"}, False),
        ({"WORLD_SIZE": "2"}, False),
        ({"RANK": "0", "WORLD_SIZE": "2"}, True),
    ],
)
def test_started_together(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: bool) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert settings.started_together() == expected


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """As if the machine had so many; nothing is computed on them."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_each_process_has_a_gpu(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    gpus(monkeypatch, 4)
    monkeypatch.setenv("MSCLNET_DEVICE", name)
    for rank in range(4):
        started(monkeypatch, local_rank=rank, together=4)
        assert settings.device() == torch.device("cuda", rank)
    started(monkeypatch, local_rank=1, together=5)
    with pytest.raises(UserError, match=r"5 processes on this machine need a GPU each, but there are 4; set"):
        settings.device()


def test_one_gpu_is_not_for_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 4)
    monkeypatch.setenv("MSCLNET_DEVICE", "cuda:2")
    started(monkeypatch, local_rank=0, together=1)
    assert settings.device() == torch.device("cuda:2")
    started(monkeypatch, local_rank=0, together=2)
    with pytest.raises(UserError, match=r"MSCLNET_DEVICE: 'cuda:2' is one GPU, but 2 processes"):
        settings.device()


@pytest.mark.parametrize(("text", "expected"), [(None, 3), ("", 3), ("0", 0), ("12", 12), ("007", 7)])
def test_workers(monkeypatch: pytest.MonkeyPatch, text: str | None, expected: int) -> None:
    if text is not None:
        monkeypatch.setenv("MSCLNET_WORKERS", text)
    assert settings.workers(3) == expected


@pytest.mark.parametrize("text", ["two", "-1", "1.5", " ", "²", "1e3"])
@pytest.mark.parametrize("variable", ["MSCLNET_WORKERS", "MSCLNET_THREADS", "MSCLNET_PROCESSES"])
def test_numbers_that_are_none(monkeypatch: pytest.MonkeyPatch, variable: str, text: str) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(UserError, match=f"{variable}: expected a number of 0 or more") as caught:
        {
            "MSCLNET_WORKERS": lambda: settings.workers(3),
            "MSCLNET_THREADS": settings.device,
            "MSCLNET_PROCESSES": settings.processes,
        }[variable]()
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(("text", "expected"), [(None, 2), ("", 2), ("1", 1), ("10", 10)])
def test_kept_checkpoints(monkeypatch: pytest.MonkeyPatch, text: str | None, expected: int) -> None:
    if text is not None:
        monkeypatch.setenv("MSCLNET_KEEP_CHECKPOINTS", text)
    assert settings.kept_checkpoints() == expected


@pytest.mark.parametrize("text", ["0", "all", "-2"])
def test_some_checkpoint_must_stay(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("MSCLNET_KEEP_CHECKPOINTS", text)
    with pytest.raises(UserError, match=r"MSCLNET_KEEP_CHECKPOINTS: expected a number of \d or more"):
        settings.kept_checkpoints()


@pytest.mark.parametrize("text", [None, "", "auto"])
def test_auto_takes_what_is_there(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    if text is not None:
        monkeypatch.setenv("MSCLNET_DEVICE", text)
    assert settings.device().type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSCLNET_DEVICE", "cpu")
    assert settings.device() == torch.device("cpu")


@pytest.mark.parametrize("text", ["gpu", "cuda:99", "cpu:x", "meta", "-", "CPU "])
def test_devices_that_do_not_work(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("MSCLNET_DEVICE", text)
    with pytest.raises(UserError, match=r"MSCLNET_DEVICE: .*set auto, cpu or cuda") as caught:
        settings.device()
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSCLNET_DEVICE", "cuda")
    with pytest.raises(UserError, match="MSCLNET_DEVICE: 'cuda' cannot be used here"):
        settings.device()


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        monkeypatch.setenv("MSCLNET_THREADS", "1")
        settings.device()
        assert torch.get_num_threads() == 1
        monkeypatch.setenv("MSCLNET_THREADS", "0")
        settings.device()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


COUNT_FAULTS = """
import resource
import numpy as np
from pipelines import settings
{keep}

def fill():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**26, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(fill(), fill())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps its own rules")
def test_a_freed_block_is_used_again() -> None:
    def faults(keep: str) -> list[int]:
        code = COUNT_FAULTS.format(keep=keep)
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return [int(number) for number in run.stdout.split()]

    # 64 MiB: 32 pages of 2 MiB at least, 16,384 of 4 KiB at most
    assert min(faults("")) >= 32
    first, second = faults("machine.keep_freed_memory()")
    assert first >= 32
    assert second < 32
