"""Servers stay on this machine unless told otherwise, and then a warning names what becomes reachable."""

import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from msclnet.errors import UserError
from pipelines import up
from pipelines.orchestration.listening import address_here, exposure, host_from, is_free, is_local
from pipelines.orchestration.service import Service, port_from

VARIABLES = ("MLFLOW_HOST", "PREFECT_HOST", "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING")


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "MLFLOW_TRACKING_URI", "PREFECT_SERVER_UI_API_URL", "MSCLNET_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "host", "local", "address"),
    [
        (None, "127.0.0.1", True, "http://127.0.0.1:80"),
        ("", "127.0.0.1", True, "http://127.0.0.1:80"),
        ("localhost", "127.0.0.1", True, "http://127.0.0.1:80"),
        (" 127.0.0.2 ", "127.0.0.2", True, "http://127.0.0.2:80"),
        ("0.0.0.0", "0.0.0.0", False, "http://127.0.0.1:80"),
    ],
)
def test_where_a_server_listens(
    monkeypatch: pytest.MonkeyPatch, given: str | None, host: str, local: bool, address: str
) -> None:
    if given is not None:
        monkeypatch.setenv("MLFLOW_HOST", given)
    assert host_from("MLFLOW_HOST") == host
    assert is_local(host) is local
    assert address_here(host, 80) == address
    warning = exposure("MLflow", host, 80, variable="MLFLOW_HOST", allows="may do anything")
    assert bool(warning) is not local


def test_addresses_of_the_sixth_version() -> None:
    assert [is_local(host) for host in ("::1", "::", "fe80::1")] == [True, False, False]
    assert [address_here(host, 1) for host in ("::1", "::", "fe80::1")] == [
        "http://[::1]:1",
        "http://[::1]:1",
        "http://[fe80::1]:1",
    ]


@pytest.mark.parametrize("given", ["example.org", "*", "127.0.0.1:80", "999.0.0.1", "203.0.113.7"])
def test_what_is_no_address_of_this_machine(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    """The last one is reserved for documentation: it is nobody's."""
    monkeypatch.setenv("PREFECT_HOST", given)
    with pytest.raises(
        UserError, match=r"^PREFECT_HOST='.*' is no address.*127\.0\.0\.1 \(this machine alone\)"
    ):
        host_from("PREFECT_HOST")


def test_a_port_is_taken_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.2", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("MLFLOW_PORT", str(port))
        assert not is_free("127.0.0.2", port)
        with pytest.raises(UserError, match=f"port {port} for MLflow is taken"):
            port_from("MLFLOW_PORT", 5000, user="MLflow", host="127.0.0.2")
        with pytest.raises(UserError, match=f"port {port} for MLflow is taken"):
            port_from("MLFLOW_PORT", 5000, user="MLflow", host="0.0.0.0")


class HasStartedError(Exception):
    """Raised in the place of the first wait: all that matters here has been started."""


@pytest.fixture
def bring_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[list[str], dict[str, list[str]], dict[str, dict[str, str]]]]:
    """`bring_up` up to the moment at which it waits: what it says, the commands, and their environments."""
    commands: dict[str, list[str]] = {}
    environments: dict[str, dict[str, str]] = {}

    def start(name: str, command: list[str], *, environment: dict[str, str], **_: Any) -> Any:
        commands[name], environments[name] = command, environment

        def wait_until(*_: Any, **__: Any) -> None:
            raise HasStartedError

        return SimpleNamespace(wait_until=wait_until, end=lambda grace: None)

    store = SimpleNamespace(uri=f"sqlite:///{tmp_path}/mlflow.db", artifact_root=None)
    monkeypatch.setattr("msclnet.tracking.server.connect", lambda home: store)
    monkeypatch.setattr(Service, "start", start)

    def run() -> tuple[list[str], dict[str, list[str]], dict[str, dict[str, str]]]:
        said: list[str] = []
        with ExitStack() as down, pytest.raises(HasStartedError):
            up.bring_up(tmp_path, down, said.append)
        return said, commands, environments

    for name in ("MLFLOW_PORT", "PREFECT_PORT"):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            monkeypatch.setenv(name, str(probe.getsockname()[1]))
    return run


def test_nothing_is_reachable_by_default(bring_up: Callable[..., Any]) -> None:
    said, commands, environments = bring_up()
    assert not [line for line in said if "warning" in line]
    for command in commands.values():
        assert command[command.index("--host") + 1] == "127.0.0.1"
    assert "PREFECT_SERVER_UI_API_URL" not in environments["prefect"]


def test_what_becomes_reachable_is_named(
    bring_up: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HOST", "0.0.0.0")
    monkeypatch.setenv("PREFECT_HOST", "0.0.0.0")
    said, commands, environments = bring_up()
    prefect, mlflow = said[:2]
    for line, words in (
        (prefect, ["warning: PREFECT_HOST=0.0.0.0 opens Prefect", "every network", "run any program as you"]),
        (prefect, ["without a password (PREFECT_SERVER_API_AUTH_STRING=user:password sets one"]),
        (
            mlflow,
            [
                "warning: MLFLOW_HOST=0.0.0.0 opens MLflow",
                "every network",
                "delete runs and registered models",
            ],
        ),
    ):
        assert all(word in line for word in words), line
    for command in commands.values():
        assert command[command.index("--host") + 1] == "0.0.0.0"
    # This machine's own programs, and a browser elsewhere.
    assert environments["prefect"]["PREFECT_API_URL"].startswith("http://127.0.0.1:")
    assert environments["prefect"]["PREFECT_SERVER_UI_API_URL"] == "/api"


def test_a_password_of_prefect_is_for_its_clients_as_well_and_never_said(
    bring_up: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOST", "0.0.0.0")
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "admin:hunter2xyz")
    said, commands, environments = bring_up()
    assert "if they know the password of PREFECT_SERVER_API_AUTH_STRING" in said[0]
    assert environments["prefect"]["PREFECT_API_AUTH_STRING"] == "admin:hunter2xyz"
    assert "hunter2xyz" not in str(said) + str(commands)


def test_the_address_of_mlflows_database_is_on_no_command_line(
    bring_up: Callable[..., Any], tmp_path: Path
) -> None:
    _, commands, environments = bring_up()
    assert "sqlite" not in " ".join(commands["mlflow"])
    assert environments["mlflow"]["MLFLOW_BACKEND_STORE_URI"] == f"sqlite:///{tmp_path}/mlflow.db"
    assert "MLFLOW_BACKEND_STORE_URI" not in environments["prefect"]
