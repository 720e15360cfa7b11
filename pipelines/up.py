"""`make up`: the MLflow UI, the Prefect server and a worker with the deployments, on this machine alone, until Ctrl-C.

Commands and flows look for the Prefect server by `server_address`.
The servers listen on 127.0.0.1, at MLFLOW_PORT and PREFECT_PORT. All that they keep lies under MSCLNET_HOME (default:
the project), in mlruns/ and .prefect/. docs/operations.md says how to serve other machines.
"""

import base64
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from msclnet.errors import UserError
from msclnet.tracking.masking import mask
from pipelines.console import printable
from pipelines.orchestration.stage_process import end_group, sigterm_raises
from pipelines.settings import home, project_root, read_settings
from pipelines.stages.config import read_yaml
from pipelines.stages.paths import PARAMS

HOST = "127.0.0.1"
READY_SECONDS = 180.0
POOL = "local"
# A worker's flow runs stop their stage, which may take 20 s to save its state.
GRACE_SECONDS = 30.0


class ServiceError(RuntimeError):
    """A server ended by itself, or did not become ready."""


@dataclass(frozen=True)
class Service:
    """A server as a child process, in a session of its own: Ctrl-C in the terminal reaches this process alone."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path  # of its output

    def check(self) -> None:
        """Raise ServiceError, with the server's last lines, if it has ended."""
        code = self.process.poll()
        if code is not None:
            raise ServiceError(f"{self.name} has ended (exit status {code}); its last lines:\n{self.tail()}")

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Ask again and again until the server is ready; ServiceError if it ends, or after READY_SECONDS."""
        deadline = time.monotonic() + READY_SECONDS
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise ServiceError(f"{self.name} was not ready in time; its last lines:\n{self.tail()}")
            time.sleep(0.2)

    def tail(self) -> str:
        """The last lines of the server's output."""
        text = self.log.read_text(errors="replace").strip().splitlines()
        return "\n".join(f"    {printable(line)}" for line in text[-15:])


def main() -> int:
    """Bring all up, wait, take all down; exit status 0 after Ctrl-C, 1 if a server failed."""
    # Also where a shell has started this in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with sigterm_raises(), ExitStack() as down:
            services = bring_up(project_root(), down)
            while True:
                for service in services:
                    service.check()
                time.sleep(0.5)
    except KeyboardInterrupt:
        print("\nall down", flush=True)
        return 0
    except ServiceError as error:
        print(f"error: {printable(error)}\nall down", file=sys.stderr)
        return 1


def bring_up(root: Path, down: ExitStack) -> list[Service]:
    """Start all services, register the deployments and print the addresses; returns the services, all ready."""
    place, settings = home(root), read_settings()
    remote = os.environ.get("MLFLOW_TRACKING_URI", "").startswith(("http://", "https://"))
    api = f"http://{HOST}:{settings.prefect_port}/api"
    for variable in ("MLFLOW_HOST", "PREFECT_HOST"):
        if os.environ.get(variable) not in (None, "", HOST, "localhost"):
            raise UserError(
                f"{variable}: make up serves this machine alone; unset it, or see docs/operations.md"
            )
    if not remote and settings.mlflow_port == settings.prefect_port:
        raise UserError(
            f"MLFLOW_PORT and PREFECT_PORT are both {settings.mlflow_port}: set one to another port"
        )
    if is_prefect(api):
        raise UserError(
            f"a Prefect server runs at {api}: end it first (make up elsewhere?), or set PREFECT_PORT"
        )
    for port, variable in ((settings.prefect_port, "PREFECT_PORT"), (settings.mlflow_port, "MLFLOW_PORT")):
        if not (remote and variable == "MLFLOW_PORT") and not is_free(port):
            raise UserError(
                f"{variable}: another program uses port {port}; end it, or set {variable} to a free port"
            )
    environment = _environment(root, place, api)
    services: list[Service] = []

    def start(name: str, *arguments: str, grace: float = 10.0, **variables: str) -> Service:
        log = place / ".prefect" / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=root,
                env=environment | variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        down.callback(end_group, process, grace=grace)
        services.append(Service(name, process, log))
        return services[-1]

    print("starting: the first time takes up to a minute", flush=True)
    prefect = start(
        "prefect", "prefect", "server", "start", "--host", HOST, "--port", str(settings.prefect_port)
    )
    page = "the server of MLFLOW_TRACKING_URI"
    if not remote:
        page = _start_mlflow(root, place, settings.mlflow_port, start)
    prefect.wait_until(lambda: is_prefect(api))
    worker = start(
        "worker", "prefect", "worker", "start", "--pool", POOL, "--type", "process", grace=GRACE_SECONDS
    )
    # The worker creates the pool that the deployments name.
    login = environment.get("PREFECT_API_AUTH_STRING", "")
    worker.wait_until(lambda: answers(f"{api}/work_pools/{POOL}", login=login))
    deploy = start("deploy", "prefect", "--no-prompt", "deploy", "--all")
    with suppress(subprocess.TimeoutExpired):
        deploy.process.wait(READY_SECONDS)
    if deploy.process.poll() != 0:
        raise ServiceError(f"the deployments could not be registered; the last lines:\n{deploy.tail()}")
    services.remove(deploy)
    if not remote:
        services[1].wait_until(lambda: answers(f"http://{HOST}:{settings.mlflow_port}/health"))
    print(f"MLflow   {page}\nPrefect  {api.removesuffix('/api')}")
    print("In another terminal, in this folder, with .venv activated:")
    if _address_in_prefect_toml(root) != api:
        print(f"  export PREFECT_API_URL={api}")
    print("  prefect deployment run train/train --watch\nCtrl-C ends everything.", flush=True)
    return services


def is_free(port: int) -> bool:
    """Whether a server could listen there."""
    with socket.socket() as probe:
        # As servers do; otherwise a port that was in use a minute ago would look taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _start_mlflow(root: Path, place: Path, port: int, start: Callable[..., Service]) -> str:
    """Start MLflow's server; the address of the project's training runs on it."""
    from msclnet.tracking.server import connect, find_or_create_experiment

    # Creates the database under a lock, before the server would do so without one.
    store = connect(place)
    artifacts = ["--default-artifact-root", store.artifact_root] if store.artifact_root else []
    listen = ["--host", HOST, "--port", str(port), "--workers", "1"]
    # Every user of the machine can read command lines, and the database's address may hold a password.
    start(
        *("mlflow", "mlflow", "server", *artifacts, "--no-serve-artifacts", *listen),
        MLFLOW_BACKEND_STORE_URI=store.uri,
    )
    values = read_yaml(root / PARAMS)
    tracking = values.get("tracking") if isinstance(values, dict) else None
    experiment = tracking.get("experiment") if isinstance(tracking, dict) else None
    # MLflow's start page is about language models; this is its page of an experiment's training runs.
    page = f"/{find_or_create_experiment(store, str(experiment))}/runs" if experiment else ""
    return f"http://{HOST}:{port}/#/experiments{page}?workflowType=machine_learning"


def _environment(root: Path, place: Path, api: str) -> dict[str, str]:
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
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
    }
    if password := variables.get("PREFECT_SERVER_API_AUTH_STRING"):
        variables.setdefault("PREFECT_API_AUTH_STRING", password)
    return variables


def _address_in_prefect_toml(root: Path) -> str | None:
    """The server that the `prefect` command finds in the project's folder without any variable."""
    try:
        settings = tomllib.loads((root / "prefect.toml").read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return None
    return settings.get("api", {}).get("url")


def server_address() -> str | None:
    """The API address of the Prefect server to use, or None to run without one.

    PREFECT_API_URL counts where it is set; otherwise a server that answers at PREFECT_PORT, which is what `make up`
    starts.
    """
    given = os.environ.get("PREFECT_API_URL")
    address = given or f"http://{HOST}:{read_settings().prefect_port}/api"
    if is_prefect(address):
        return address
    if given:
        raise UserError(
            f"PREFECT_API_URL={mask(given)}: no Prefect server answers there; start it (make up), or unset the variable"
        )
    return None


def is_prefect(api: str) -> bool:
    """Whether a Prefect server answers at an API address; the answer of any other server differs from `true`."""
    return answers(f"{api}/health", expected=b"true")


def answers(url: str, *, login: str = "", expected: bytes | None = None) -> bool:
    """Whether a GET of the address succeeds, with the `expected` answer; login: `user:password`.

    Without a login a server that asks for it counts as answering.
    """
    try:
        request = urllib.request.Request(url)
        if login:
            request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
        with urllib.request.urlopen(request, timeout=3.0) as response:
            return expected in (None, response.read(100).strip())
    except urllib.error.HTTPError as error:
        return not login and error.code in (401, 403)  # it is there, and the flow itself has the key
    except (OSError, ValueError, http.client.HTTPException):  # the last for an address that is none
        return False
