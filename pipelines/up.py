"""`make up`: the MLflow UI, the Prefect server and a worker with the deployments, until Ctrl-C.

    MLFLOW_PORT   (5000)       where MLflow listens
    PREFECT_PORT  (4200)       where Prefect listens
    MLFLOW_HOST   (127.0.0.1)  on this machine only; another address opens it to others, and a warning says so
    PREFECT_HOST  (127.0.0.1)  the same for Prefect

Everything that they keep lies under MSCLNET_HOME (default: the project): mlruns/ and .prefect/.
"""

import os
import signal
import sys
import time
import tomllib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from msclnet.errors import UserError
from pipelines.console import mask_tracebacks, tellable
from pipelines.orchestration.environment import QUIET, home, project_root
from pipelines.orchestration.listening import address_here, exposures, host_from, is_local
from pipelines.orchestration.prefect_server import answers
from pipelines.orchestration.service import Service, ServiceError, port_from
from pipelines.orchestration.stage_process import sigterm_raises

READY_SECONDS = 180.0
POOL = "local"
# A worker's flow runs stop their stage, which may take 20 s to save its state.
GRACE_SECONDS = 30.0


def main() -> int:
    """Bring all up, wait, take all down.

    Returns:
        Exit status: 0 after Ctrl-C, 143 after SIGTERM, 2 after a mistake of the user, 1 if a server failed.
    """
    mask_tracebacks()
    os.environ.update({key: value for key, value in QUIET.items() if key not in os.environ})
    try:
        with sigterm_raises(), ExitStack() as down:
            root = project_root()
            say = _printer()
            services = bring_up(root, down, say)
            while True:
                for service in services:
                    service.check()
                time.sleep(0.5)
    except KeyboardInterrupt:
        print("\nall down", flush=True)
        return 0
    except UserError as error:
        print(f"error: {tellable(error)}", file=sys.stderr)
        return 2
    except ServiceError as error:
        print(f"error: {tellable(error)}\nall down", file=sys.stderr)
        return 1


def bring_up(root: Path, down: ExitStack, say: Callable[[str], None]) -> list[Service]:
    """Start all services and register the deployments.

    Args:
        root: the project.
        down: receives what takes the services down again, in the reverse order.
        say: prints a line.

    Returns:
        The services, all of them ready.
    """
    place = home(root)
    mlflow_host, prefect_host = host_from("MLFLOW_HOST"), host_from("PREFECT_HOST")
    mlflow_port = (
        None if _remote_mlflow() else port_from("MLFLOW_PORT", 5000, user="MLflow", host=mlflow_host)
    )
    prefect_port = port_from("PREFECT_PORT", 4200, user="Prefect", host=prefect_host)
    if mlflow_port == prefect_port:
        raise UserError(
            f"MLFLOW_PORT and PREFECT_PORT are both {prefect_port}: set one of them to another port"
        )
    api = f"{address_here(prefect_host, prefect_port)}/api"
    environment = _environment(root, place, api, prefect_host)
    for warning in exposures(mlflow_host, mlflow_port, prefect_host, prefect_port):
        say(warning)
    services: list[Service] = []

    def start(name: str, *arguments: str, grace: float = 10.0, **variables: str) -> Service:
        log = place / ".prefect" / "logs" / f"{name}.log"
        command = [sys.executable, "-m", *arguments]
        service = Service.start(name, command, log=log, folder=root, environment=environment | variables)
        down.callback(service.end, grace=grace)
        services.append(service)
        return service

    say("starting: the first time takes up to a minute")
    prefect = start(
        "prefect", "prefect", "server", "start", "--host", prefect_host, "--port", str(prefect_port)
    )
    mlflow = None
    if mlflow_port is not None:
        arguments, database = _mlflow_command(place, mlflow_host, mlflow_port)
        mlflow = start("mlflow", *arguments, MLFLOW_BACKEND_STORE_URI=database)
    prefect.wait_until(lambda: answers(f"{api}/health"), seconds=READY_SECONDS)
    command = ("prefect", "worker", "start", "--pool", POOL, "--type", "process")
    worker = start("worker", *command, grace=GRACE_SECONDS)
    # The worker makes the pool that the deployments name.
    login = environment.get("PREFECT_API_AUTH_STRING", "")
    worker.wait_until(lambda: answers(f"{api}/work_pools/{POOL}", login=login), seconds=READY_SECONDS)
    _deploy(start, services)
    if mlflow is not None and mlflow_port is not None:
        address = address_here(mlflow_host, mlflow_port)
        mlflow.wait_until(lambda: answers(f"{address}/health"), seconds=READY_SECONDS)
        say(f"MLflow   {address}")
    else:
        say("MLflow   the server of MLFLOW_TRACKING_URI")
    say(f"Prefect  {api.removesuffix('/api')}")
    say("In another terminal, in this folder, with .venv activated:")
    if _address_in_prefect_toml(root) != api:
        say(f"  export PREFECT_API_URL={api}")
    if login:
        say("  export PREFECT_API_AUTH_STRING=...   (what PREFECT_SERVER_API_AUTH_STRING says)")
    say("  prefect deployment run train/train --watch")
    say("Ctrl-C ends everything.")
    return services


def _deploy(start: Callable[..., Service], services: list[Service]) -> None:
    service = start("deploy", "prefect", "--no-prompt", "deploy", "--all")
    deadline = time.monotonic() + READY_SECONDS
    while service.process.poll() is None and time.monotonic() < deadline:
        for other in services[:-1]:
            other.check()
        time.sleep(0.2)
    if service.process.poll() != 0:
        raise ServiceError(f"the deployments could not be registered:\n{service.tail()}")
    services.remove(service)


def _address_in_prefect_toml(root: Path) -> str | None:
    """The server that the `prefect` command finds in the project's folder without any variable."""
    try:
        settings = tomllib.loads((root / "prefect.toml").read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return None
    return settings.get("api", {}).get("url")


def _environment(root: Path, place: Path, api: str, prefect_host: str) -> dict[str, str]:
    variables = os.environ | {
        "MSCLNET_HOME": str(place),
        "PREFECT_HOME": os.environ.get("PREFECT_HOME") or str(place / ".prefect"),
        "PREFECT_API_URL": api,
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_CLI_COLORS": "false",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # prefect.yaml asks for the folder; a shell's own PWD is the one that it was started in.
        "PWD": str(root),
        "PYTHONUNBUFFERED": "1",
    }
    if password := variables.get("PREFECT_SERVER_API_AUTH_STRING"):
        variables.setdefault("PREFECT_API_AUTH_STRING", password)
    if not is_local(prefect_host):
        # A browser elsewhere must ask the server that it has the page from, not its own machine.
        variables.setdefault("PREFECT_SERVER_UI_API_URL", "/api")
    variables["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), variables.get("PATH", os.defpath)])
    # Requests to this machine need no proxy, whatever the user's shell says about others.
    for name in ("NO_PROXY", "no_proxy"):
        variables[name] = ",".join(filter(None, [variables.get(name), "127.0.0.1", "localhost"]))
    return variables


def _remote_mlflow() -> bool:
    return os.environ.get("MLFLOW_TRACKING_URI", "").startswith(("http://", "https://"))


def _mlflow_command(place: Path, host: str, port: int) -> tuple[list[str], str]:
    """The server's command, and the address of its database: every user of the machine can read command lines."""
    from msclnet.tracking.server import connect

    # Creates the database under a lock, before the server would do so without one.
    store = connect(place)
    artifacts = ["--default-artifact-root", store.artifact_root] if store.artifact_root else []
    listen = ["--host", host, "--port", str(port), "--workers", "1"]
    return ["mlflow", "server", *artifacts, "--no-serve-artifacts", *listen], store.uri


def _printer() -> Callable[[str], None]:
    return lambda line: print(line, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    raise SystemExit(main())
