import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest
import tiny_project
from smoke_project import QUIET_SERVER, prefect_tables

from msclnet.errors import UserError
from pipelines import up as up_command
from pipelines.orchestration.stage_process import end_group
from pipelines.up import Service, ServiceError, _address_in_prefect_toml, bring_up, is_prefect, server_address

wait_for = partial(tiny_project.wait_for, every=0.5)
ENTRY = """
from pipelines.flows import ablation, evaluate, gallery, grid, regdb, sensitivity, train, watch_gallery
from pipelines.orchestration import experiments
experiments.load_params = lambda path: None
"""
# The command with as much time as a busy machine takes.
PATIENT = """
from pipelines import cli, up
up.READY_SECONDS = 900.0
cli.main()
"""
PASSWORD = "hunter2xyz"
ADDRESS = f"https://me:{PASSWORD}@host.example/a.zip"
PREFECT_YAML = Path(__file__).parents[2] / "prefect.yaml"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        url, data=json.dumps(body).encode(), headers={"content-type": "application/json"}
    )
    for left in range(20, -1, -1):
        try:
            with urllib.request.urlopen(request, timeout=300) as response:
                return json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            # Prefect's database is busy for a moment; its own clients ask again, too.
            if error.code != 503 or not left:
                raise
            time.sleep(0.5)
    raise AssertionError("unreachable")


@pytest.fixture
def unset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder, and free ports."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_HOST", "PREFECT_HOST", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("MLFLOW_PORT", "PREFECT_PORT"):
        monkeypatch.setenv(name, str(free_port()))
    return tmp_path


def refusal(root: Path) -> str:
    with pytest.raises(UserError) as caught, ExitStack() as down:
        bring_up(root, down)
    assert list(root.iterdir()) == []
    return str(caught.value)


@contextmanager
def web_server(answer: bytes) -> Iterator[int]:
    """A server that gives the same answer to every request; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("variable", ["MLFLOW_PORT", "PREFECT_PORT"])
def test_a_taken_port_is_named_with_its_variable(
    unset: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with web_server(b"<html>another program</html>") as port:
        monkeypatch.setenv(variable, str(port))
        assert re.match(rf"{variable}: another program uses port {port}; .*set {variable} to", refusal(unset))


def test_a_prefect_server_that_runs_already_is_named(unset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with web_server(b"true") as port:
        monkeypatch.setenv("PREFECT_PORT", str(port))
        message = refusal(unset)
        assert f"a Prefect server runs at http://127.0.0.1:{port}/api" in message
        assert "PREFECT_PORT" in message


def test_one_port_for_both_servers_is_refused(unset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_PORT", os.environ["PREFECT_PORT"])
    assert f"MLFLOW_PORT and PREFECT_PORT are both {os.environ['PREFECT_PORT']}" in refusal(unset)


@pytest.mark.parametrize("variable", ["MLFLOW_HOST", "PREFECT_HOST"])
def test_other_machines_are_not_served(unset: Path, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "0.0.0.0")
    assert re.match(rf"{variable}: .*this machine alone; unset it, or see docs/operations.md", refusal(unset))


def test_another_programs_server_is_not_taken_for_prefect(
    unset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with web_server(b"<html>another program</html>") as port:
        monkeypatch.setenv("PREFECT_PORT", str(port))
        assert not is_prefect(f"http://127.0.0.1:{port}/api")
        assert server_address() is None
        monkeypatch.setenv("PREFECT_API_URL", f"http://me:{PASSWORD}@127.0.0.1:{port}/api")
        with pytest.raises(
            UserError, match=r"PREFECT_API_URL=http://\*\*\*@127.*: no Prefect server"
        ) as caught:
            server_address()
        assert PASSWORD not in str(caught.value)


def test_a_service_that_ends_shows_its_last_lines_without_passwords(tmp_path: Path) -> None:
    program = f"print('no room for postgresql://me:{PASSWORD}@db/mlflow'); raise SystemExit(3)"
    log = tmp_path / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-c", program], stdout=output)
    service = Service("server", process, log)
    with pytest.raises(
        ServiceError, match=r"(?s)server has ended \(exit status 3\).*no room for postgresql://\*\*\*@db"
    ) as caught:
        service.wait_until(lambda: False)
    assert PASSWORD not in str(caught.value)


def test_the_address_in_prefect_toml(tmp_path: Path) -> None:
    assert _address_in_prefect_toml(tmp_path) is None
    (tmp_path / "prefect.toml").write_text('[api]\nurl = "http://127.0.0.1:4200/api"\n')
    assert _address_in_prefect_toml(tmp_path) == "http://127.0.0.1:4200/api"


def test_the_deployments_are_declared_as_they_must_be() -> None:
    from ruamel.yaml import YAML

    declared = YAML(typ="safe", pure=True).load(PREFECT_YAML.read_text())

    names = [(entry["name"], entry["entrypoint"]) for entry in declared["deployments"]]
    assert names == [
        ("train", "pipelines/flows.py:train"),
        ("evaluate", "pipelines/flows.py:evaluate"),
        ("regdb", "pipelines/flows.py:regdb"),
        ("ablation", "pipelines/flows.py:ablation"),
        ("sensitivity", "pipelines/flows.py:sensitivity"),
        ("grid", "pipelines/flows.py:grid"),
        ("gallery", "pipelines/flows.py:gallery"),
        ("watch", "pipelines/flows.py:watch_gallery"),
    ]
    for entry in declared["deployments"]:
        if entry["name"] in ("train", "evaluate"):  # workers may share the cells of a grid
            assert entry["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
        assert entry["work_pool"]["name"] == "local"
        assert all(schedule["active"] is False for schedule in entry.get("schedules", []))


class Up:
    """`msclnet up` on the tiny project, as a child process."""

    def __init__(self, root: Path, home: Path) -> None:
        (root / "tiny_flows.py").write_text(ENTRY)
        yaml = re.sub(r"pipelines/\w+\.py", "tiny_flows.py", PREFECT_YAML.read_text())
        (root / "prefect.yaml").write_text(yaml)
        self.home = home
        self.mlflow, self.prefect = free_port(), free_port()
        self.api = f"http://127.0.0.1:{self.prefect}/api"
        ports = {"MLFLOW_PORT": str(self.mlflow), "PREFECT_PORT": str(self.prefect)}
        self.output = home / "up.txt"
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PATIENT, "up"],
                cwd=root,
                env={**os.environ, **QUIET_SERVER, **ports, "GIVEN": ADDRESS},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def text(self) -> str:
        return self.output.read_text()

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.text()
            return "Ctrl-C ends everything." in self.text()

        wait_for(ready, what="make up")

    def run_deployment(self, name: str, **overrides: object) -> str:
        found = json.loads(urllib.request.urlopen(f"{self.api}/deployments/name/{name}", timeout=300).read())
        parameters = {"overrides": overrides} if overrides else {}
        url = f"{self.api}/deployments/{found['id']}/create_flow_run"
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}, "idempotency_key": uuid.uuid4().hex}
        return post(url, body)["id"]

    def run(self, run: str) -> dict[str, Any]:
        return json.loads(urllib.request.urlopen(f"{self.api}/flow_runs/{run}", timeout=300).read())

    def tasks(self, run: str) -> dict[str, int]:
        """Name of each task -> how often it was started."""
        found = post(f"{self.api}/task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        found.sort(key=lambda task: task["start_time"])
        return {task["name"]: task["run_count"] for task in found}

    def logs(self, run: str) -> str:
        found = post(f"{self.api}/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200})
        return "\n".join(record["message"] for record in found)

    def artifacts(self, run: str) -> dict[str, str]:
        found = post(f"{self.api}/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}}})
        return {artifact["key"]: artifact["data"] for artifact in found}


@pytest.fixture
def up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path, prefect_database: Path
) -> Iterator[Up]:
    root, home = tiny_project.setup(tmp_path, monkeypatch)
    (root / "mlruns").mkdir()
    shutil.copy(empty_database, root / "mlruns" / "mlflow.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    with prefect_tables(root / ".prefect", prefect_database):
        running = Up(root, home)
        running.wait_until_ready()
    yield running
    with suppress(psutil.Error):
        for process in [*psutil.Process(running.process.pid).children(recursive=True), running.process]:
            process.kill()
    running.process.wait()


@pytest.mark.pipeline
def test_up_runs_deployments_and_leaves_nothing_behind(up: Up, tmp_path: Path) -> None:
    root = tmp_path / "project"
    assert f"http://127.0.0.1:{up.mlflow}/#/experiments?workflowType=machine_learning\n" in up.text()
    assert f"export PREFECT_API_URL={up.api}\n" in up.text()
    addresses: set[Any] = {c.laddr for c in psutil.net_connections() if c.status == "LISTEN"}
    assert {a.ip for a in addresses if a.port in (up.mlflow, up.prefect)} == {"127.0.0.1"}

    # Two at once: the runs of one deployment wait for each other, and neither gets in the other's way.
    crashing = up.run_deployment("train/train", **{"train.epochs": 500})
    plain = up.run_deployment("train/train")
    ended = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
    runs = [crashing, plain]
    wait_for(lambda: all(up.run(run)["state_type"] in ended for run in runs), what="two runs", seconds=900)
    assert [up.run(run)["state_type"] for run in runs] == ["COMPLETED", "COMPLETED"]
    assert (root / "results" / "model" / "weights.txt").read_text() == "2"
    found = tiny_project.experiments(root)
    assert [entry["params"]["train"]["epochs"] for entry in found.values()] == [500]
    assert [entry["metrics"]["results/train/run.json"]["run_id"] for entry in found.values()] == ["run-500"]

    assert up.tasks(crashing) == {"prepare": 1, "train": 2, "evaluate": 1}
    truly = tiny_project.runs(up.home)
    assert [truly.count(f"train {epochs}") for epochs in (500, 2)] == [2, 1]

    artifacts = up.artifacts(crashing)
    assert sorted(artifacts) == ["figure-cmc", "metrics", "stages"]
    statuses = {row["stage"]: row["status"] for row in json.loads(artifacts["stages"])}
    assert list(statuses) == ["prepare", "train", "evaluate"]
    assert (statuses["train"], statuses["evaluate"]) == ("run", "run")
    assert json.loads(artifacts["metrics"]) == [{"of": "all.single", "rank-1": "50", "mAP": "25"}]
    assert artifacts["figure-cmc"].startswith("![cmc.png](data:image/png;base64,")

    # The user knows the override, and no file of the clone; Prefect adds no traceback.
    unknown = up.run_deployment("train/train", **{"train.epoch": 3})
    wait_for(lambda: up.run(unknown)["state_type"] in ended, what="the mistake")
    message = "error: train.epoch: params.yaml has no such key (did you mean 'train.epochs'?)"
    assert up.run(unknown)["state"]["message"] == message
    wait_for(lambda: message in up.logs(unknown), what="the log")
    worker = (root / ".prefect" / "logs" / "worker.log").read_text()
    assert "Traceback" not in up.logs(unknown) + worker

    cancelled = up.run_deployment("train/train", **{"train.epochs": 999})
    pid = up.home / "pid"
    wait_for(lambda: pid.exists() and pid.read_text() != "", what="the training")
    post(f"{up.api}/flow_runs/{cancelled}/set_state", {"state": {"type": "CANCELLING"}})
    wait_for(lambda: (up.home / "stopped").exists(), what="the training's end")
    wait_for(lambda: not tiny_project.lives(int(pid.read_text())), what="the training's end")
    wait_for(lambda: up.run(cancelled)["state_type"] == "CANCELLED", what="the state")

    # What the stages print of addresses is in the log, and their secrets are nowhere: not in Prefect's database either.
    wait_for(lambda: "crash at epoch 1" in up.logs(crashing), what="the log")
    assert "images from https://***@host.example/a.zip" in up.logs(crashing)
    assert "crash at epoch 1 with https://***@host.example/a.zip" in up.logs(crashing)
    files = [path for folder in (root, up.home) for path in folder.rglob("*") if path.is_file()]
    assert any(b"host.example" in path.read_bytes() for path in files)
    assert [path for path in files if PASSWORD.encode() in path.read_bytes()] == []

    children = psutil.Process(up.process.pid).children(recursive=True)
    assert len(children) >= 3
    # Every user of the machine can read command lines; an address of a database may hold a password.
    assert not [child for child in children if any("sqlite" in part for part in child.cmdline())]
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(timeout=900) == 0
    assert up.text().endswith("all down\n")
    assert not any(tiny_project.lives(child.pid) for child in children)
    assert not listens(up.mlflow)
    assert not listens(up.prefect)


def test_when_one_server_dies_all_go_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two sleeping programs stand for the servers."""
    processes: list[subprocess.Popen[bytes]] = []

    def start_two(root: Path, down: ExitStack) -> list[Service]:
        (tmp_path / "log").write_text("a last line")
        for _ in range(2):
            command = [sys.executable, "-S", "-c", "import time; time.sleep(3600)"]
            processes.append(subprocess.Popen(command, start_new_session=True))
            down.callback(end_group, processes[-1], grace=10.0)
        processes[0].kill()
        return [Service(str(number), each, tmp_path / "log") for number, each in enumerate(processes)]

    monkeypatch.setattr(up_command, "bring_up", start_two)
    before = signal.getsignal(signal.SIGINT)
    try:
        assert up_command.main() == 1
    finally:
        signal.signal(signal.SIGINT, before)
    assert re.search(
        r"error: 0 has ended \(exit status -9\); .*\n +a last line\nall down", capsys.readouterr().err
    )
    assert not any(tiny_project.lives(process.pid) for process in processes)
