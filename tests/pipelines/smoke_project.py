"""A copy of the project at smoke size, and a Prefect server of its own."""

import io
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.orchestration.prefect_server import answers
from pipelines.stages.presets import apply_preset

ROOT = Path(__file__).resolve().parents[2]
Run = subprocess.CompletedProcess[str]
# Of no use to the synthetic data set and the local database; they must not be found anywhere afterwards.
SECRET_ADDRESS, SECRET_PASSWORD = "http://me:hunter2xyz@127.0.0.1:9", "pass4mlflow"


@dataclass(frozen=True)
class Project:
    """A project folder with its own git, DVC cache, MLflow database and Prefect home."""

    root: Path
    flow_artifacts: dict[str, Any] = field(default_factory=dict, repr=False)

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

        Stages and commands run inside this process, which saves an interpreter's start with all its imports.
        Where the process itself is the subject of a test, `own_process` starts one. Flows always get one: Prefect
        reads its settings when it is imported.
        """
        flow = command[2:3] == ("pipelines",) and command[3:4] in [("train",), ("evaluate",), ("grid",)]
        if command[:2] == ("python", "-m") and not (flow or own_process or preexec_fn):
            done = self._run_here(*command[2:], environment=self.environment(**environment))
        else:
            done = self._run_process(
                *command, preexec_fn=preexec_fn, environment=self.environment(**environment)
            )
        if ok and done.returncode:
            raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def _run_here(self, module: str, *arguments: str, environment: dict[str, str]) -> Run:
        out, error = io.StringIO(), io.StringIO()
        before = os.environ.copy(), Path.cwd(), sys.argv, sys.excepthook
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(self.root)
        sys.argv = [module, *arguments]
        try:
            with redirect_stdout(out), redirect_stderr(error):
                try:
                    runpy.run_module(module, run_name="__main__")
                    code = 0
                except SystemExit as stop:
                    code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
                except Exception:
                    traceback.print_exc()
                    code = 1
        finally:
            os.environ.clear()
            os.environ.update(before[0])
            os.chdir(before[1])
            sys.argv, sys.excepthook = before[2:]
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return subprocess.CompletedProcess([module, *arguments], code, out.getvalue(), error.getvalue())

    def _run_process(
        self, *command: str, preexec_fn: Callable[[], None] | None, environment: dict[str, str]
    ) -> Run:
        return subprocess.run(
            command,
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            preexec_fn=preexec_fn,
        )

    def edit(self, old: str, new: str) -> None:
        """Replace a text that stands in params.yaml exactly once."""
        path = self.root / "params.yaml"
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in params.yaml"
        path.write_text(text.replace(old, new))


def copy_project(target: Path) -> Project:
    """The files that git would take, with the smoke preset as params.yaml, committed."""
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
    apply_preset(target, "smoke")
    project = Project(target)
    project.run("git", "init", "--quiet")
    project.run("git", "add", "--all")
    project.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--message", "start")
    return project


@contextmanager
def prefect_server(project: Project, home: Path) -> Iterator[str]:
    """A Prefect server of its own on a free port; its API address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}/api"
    quiet = {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "true"}
    server = subprocess.Popen(
        ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        env=project.environment(**quiet),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 180
        while not answers(f"{address}/health"):
            assert server.poll() is None, "the Prefect server ended"
            assert time.monotonic() < deadline, "the Prefect server did not start"
            time.sleep(0.3)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def ask(url: str, body: dict[str, Any]) -> Any:
    """Answer of the Prefect API."""
    request = urllib.request.Request(
        url, data=json.dumps(body).encode(), headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read())
