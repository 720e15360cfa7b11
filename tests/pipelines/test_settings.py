"""Settings of the machine, as the environment gives them, and what every process prepares."""

import os
import platform
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from msclnet.errors import UserError
from pipelines import settings

VARIABLES = (
    *(f"MSCLNET_{name.upper()}" for name in settings.Settings.model_fields),
    *("MLFLOW_PORT", "PREFECT_PORT", "DVC_ROOT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_defaults() -> None:
    found = settings.read_settings()
    assert (found.device, found.processes, found.workers, found.threads) == ("auto", 1, None, 0)
    assert (found.cuda_graphs, found.keep_checkpoints) == ("on", 2)
    assert (found.mlflow_port, found.prefect_port) == (5000, 4200)
    assert all(field.description for field in settings.Settings.model_fields.values())


def test_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings.home() == tmp_path.resolve()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "root"))
    assert settings.home() == (tmp_path / "root").resolve()
    assert settings.home(tmp_path / "project") == (tmp_path / "project").resolve()
    monkeypatch.setenv("MSCLNET_HOME", "relative")
    assert settings.home(tmp_path / "project") == (tmp_path / "relative").resolve()
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("MSCLNET_HOME", "~/x")
    assert settings.home() == (tmp_path / "user/x").resolve()
    assert settings.stage_environment(tmp_path, workspace=tmp_path)["MSCLNET_HOME"] == str(settings.home())
    monkeypatch.setenv("MSCLNET_HOME", "")
    assert settings.home() == (tmp_path / "root").resolve()


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        *((f"MSCLNET_{name}", "two", ["integer"]) for name in ("WORKERS", "THREADS", "PROCESSES")),
        ("MSCLNET_WORKERS", "-1", ["0"]),
        ("MSCLNET_PROCESSES", "0", ["1"]),
        ("MSCLNET_KEEP_CHECKPOINTS", "0", ["1"]),
        ("MSCLNET_CUDA_GRAPHS", "perhaps", ["'on' or 'off'"]),
        ("PREFECT_PORT", "70000", ["65535"]),
        ("MLFLOW_PORT", "http", ["integer"]),
    ],
)
def test_a_wrong_value_is_named_with_its_variable_and_what_is_expected(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, words: list[str]
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(UserError, match=f"^{variable}: expected .*, not {text!r} .*unset") as caught:
        settings.read_settings()
    assert all(word in str(caught.value) for word in words)


def test_every_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSCLNET_WORKERS", "two")
    monkeypatch.setenv("MSCLNET_CUDA_GRAPHS", "perhaps")
    with pytest.raises(UserError, match=r"(?s)MSCLNET_WORKERS.*\nMSCLNET_CUDA_GRAPHS"):
        settings.home()


def test_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PROCESSES", "8"), ("WORKERS", "0"), ("KEEP_CHECKPOINTS", "10"), ("THREADS", "")):
        monkeypatch.setenv(f"MSCLNET_{name}", value)
    found = settings.read_settings()
    assert (found.processes, settings.workers(3), found.keep_checkpoints) == (8, 0, 10)
    assert settings.threads() == settings.cores()
    monkeypatch.delenv("MSCLNET_WORKERS")
    assert settings.workers(3) == 3


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


@pytest.mark.parametrize("text", ["", "auto"])
def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("MSCLNET_DEVICE", text)
    assert settings.device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("text", ["gpu", "cuda:99", "cpu:x", "meta", "CPU "])
def test_devices_that_do_not_work(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("MSCLNET_DEVICE", text)
    with pytest.raises(UserError, match=r"MSCLNET_DEVICE: .*set auto, cpu or cuda") as caught:
        settings.device()
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        for text in ("1", "0"):  # 0: as it was
            monkeypatch.setenv("MSCLNET_THREADS", text)
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
    first, second = faults("settings.keep_freed_memory()")
    assert first >= 32
    assert second < 32


# What every process prepares


@pytest.fixture
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes of os.environ end with the test."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.mark.usefixtures("own_environment")
def test_servers_on_this_machine_are_reached_without_a_proxy() -> None:
    """As the three HTTP clients of the tools choose their proxies."""
    import urllib.request

    import httpx
    import requests.utils

    os.environ |= {"HTTP_PROXY": "http://proxy.example:3128", "ALL_PROXY": "socks5://proxy.example:1080"}
    os.environ["no_proxy"] = "inner.example"
    settings.prepare_process()
    for url in ("http://127.0.0.1:4200/api", "http://localhost:5000"):
        host = url.split("/")[2].split(":")[0]
        assert urllib.request.proxy_bypass(host)
        assert requests.utils.get_environ_proxies(url) == {}
        with httpx.Client() as client:
            transport: Any = client._transport_for_url(httpx.URL(url))
            assert transport is client._transport
    assert os.environ["NO_PROXY"] == "127.0.0.1,localhost,::1"
    assert os.environ["no_proxy"] == "inner.example,127.0.0.1,localhost,::1"
    assert requests.utils.get_environ_proxies("http://far.example")["http"] == "http://proxy.example:3128"
    settings.prepare_process()
    assert os.environ["NO_PROXY"] == "127.0.0.1,localhost,::1"


@pytest.mark.usefixtures("own_environment")
def test_a_user_without_a_name_and_a_home_gets_both(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As with `docker run --user 12345`."""

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME", "HOME"):
        os.environ.pop(name, None)
    settings.prepare_process()
    assert os.environ["USER"] == f"user{os.getuid()}"
    assert Path(os.environ["HOME"]) == tmp_path.resolve()


def test_output_that_an_encoding_lacks_is_escaped() -> None:
    code = "from pipelines.settings import prepare_process\nprepare_process()\nprint('39.7 ± 1.2')"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert run.stdout == b"39.7 \\xb1 1.2\n"
