"""A copy of the project at smoke size, and a Prefect server of its own."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import in_process
from filelock import FileLock
from in_process import dvc_in_process

from pipelines.orchestration.stage_process import end_group
from pipelines.stages.presets import apply_preset
from pipelines.up import answers

ROOT = Path(__file__).resolve().parents[2]
# The smoke preset, smaller still: what its stages do takes longer than the tests look at.
SMALLER = {
    "identities: {train: 12, val: 6, test: 8}": "identities: {train: 8, val: 4, test: 6}",
    "gradients_every: 2": "gradients_every: 0",
    "heatmap_identities: 3, retrieval_queries: 3": "heatmap_identities: 1, retrieval_queries: 1",
}
# A Prefect server without the services that look around all the time for what no test has.
QUIET_SERVER = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "true"} | {
    f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false"
    for name in ("CANCELLATION_CLEANUP", "FOREMAN", "LATE_RUNS", "PAUSE_EXPIRATIONS", "SCHEDULER", "TRIGGERS")
}
Run = subprocess.CompletedProcess[str]
# Of no use to the synthetic data set and the local database; the passwords must not be found anywhere afterwards.
# The proxy does not answer: traffic to this machine must not take it.
PASSWORDS = ("hunter2xyz", "pass4mlflow")
PROXY = f"http://me:{PASSWORDS[0]}@127.0.0.1:9"
SECRETS = {"HTTP_PROXY": PROXY, "HTTPS_PROXY": PROXY, "MLFLOW_TRACKING_PASSWORD": PASSWORDS[1]}


@dataclass(frozen=True)
class Project:
    """A project folder with its own git, DVC cache, MLflow database and Prefect home."""

    root: Path

    def environment(self, **changes: str) -> dict[str, str]:
        """Variables for a child: this interpreter first, nothing of the surroundings' trackers."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MSCLNET_", "MLFLOW_", "PREFECT_", "DVC_", "GIT_"))
        }
        return {
            **kept,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}",
            "PREFECT_PORT": "1",  # nothing answers there, whatever runs on this machine
            "OMP_NUM_THREADS": "1",
            "MSCLNET_WORKERS": "0",  # each worker process would import everything once more
            **changes,
        }

    def run(
        self,
        *command: str,
        ok: bool = True,
        own_process: bool = False,
        preexec_fn: Callable[[], None] | None = None,
        **environment: str,
    ) -> Run:
        """Run a command in the project; `python` and `dvc` are this interpreter's.

        DVC, stages and commands run inside this process, which saves an interpreter's start with all its imports.
        Where the process itself is the subject of a test, `own_process` starts one.
        """
        variables = self.environment(**environment)
        here = command[0] == "dvc" or command[:2] == ("python", "-m")
        if here and not (own_process or preexec_fn):
            with dvc_in_process():
                code, out, errors = in_process.run(command, self.root, variables)
            done = subprocess.CompletedProcess(command, code, out, errors)
        else:
            done = self._run_process(*command, preexec_fn=preexec_fn, environment=variables)
        if ok and done.returncode:
            raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def _run_process(
        self, *command: str, preexec_fn: Callable[[], None] | None, environment: dict[str, str]
    ) -> Run:
        return subprocess.run(
            command,
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=3600,
            preexec_fn=preexec_fn,
        )

    def edit(self, old: str, new: str) -> None:
        """Replace a text that stands in params.yaml exactly once."""
        path = self.root / "params.yaml"
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in params.yaml"
        path.write_text(text.replace(old, new))


def copy_project(target: Path, database: Path | None = None) -> Project:
    """The files that git would take, with the smoke preset as params.yaml, committed; an MLflow database if given."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        source = ROOT / name
        if source.is_file() and not name.startswith(("tests/", "experiments/results/", "dvc.lock")):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target / name)
    smoke = target / "presets/smoke.yaml"
    text = smoke.read_text()
    for whole, part in SMALLER.items():
        assert text.count(whole) == 1, whole
        text = text.replace(whole, part)
    smoke.write_text(text)
    apply_preset(target, "smoke")
    if database:
        (target / "mlruns").mkdir()
        shutil.copy(database, target / "mlruns" / "mlflow.db")
    project = Project(target)
    project.run("git", "init", "--quiet")
    project.run("git", "add", "--all")
    project.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--message", "start")
    return project


@contextmanager
def prefect_tables(home: Path, database: Path) -> Iterator[None]:
    """Start a Prefect server of this home within the block: its tables, which take long, are made once for all workers.

    Args:
        home: The server's PREFECT_HOME.
        database: Where the tables are kept; the first server makes them.
    """
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{database}.lock"):
        if database.exists():
            shutil.copy(database, home / "prefect.db")
        yield
        if not database.exists():
            with sqlite3.connect(home / "prefect.db") as made, sqlite3.connect(database) as kept:
                made.backup(kept)


@contextmanager
def prefect_server(project: Project, home: Path, database: Path) -> Iterator[str]:
    """A Prefect server of its own on a free port; its API address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}/api"
    with ExitStack() as down:
        with prefect_tables(home, database):
            server = subprocess.Popen(
                ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
                env=project.environment(PREFECT_HOME=str(home), **QUIET_SERVER),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            down.callback(end_group, server, grace=60.0)
            deadline = time.monotonic() + 900
            while not answers(f"{address}/health"):
                assert server.poll() is None, "the Prefect server ended"
                assert time.monotonic() < deadline, "the Prefect server did not start"
                time.sleep(0.3)
        yield address


def ask(url: str, body: dict[str, Any]) -> Any:
    """Answer of the Prefect API."""
    request = urllib.request.Request(
        url, data=json.dumps(body).encode(), headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=300) as response:
        return json.loads(response.read())
