"""A DVC project of three quick stages, for tests of what runs pipelines.

prepare -> train -> evaluate. Each program appends its name to `runs.log` outside the project each time it truly
runs, so that tests can count runs instead of believing messages.
"""

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import in_process
import psutil
import pytest

from pipelines.orchestration.dvc_files import output_files
from pipelines.orchestration.workspace import cache_folder

STAGES = """\
stages:
  prepare:
    cmd: python prepare.py
    deps: [prepare.py]
    params: [prepare]
    outs: [data/prepared]
  train:
    cmd: python train.py
    deps: [train.py, data/prepared]
    params: [train]
    outs: [results/model]
    metrics: [results/train/run.json]
  evaluate:
    cmd: python evaluate.py
    deps: [evaluate.py, results/model]
    params: [evaluate]
    outs: [results/figures]
    metrics: [results/metrics/metrics.json]
"""

PARAMS = """\
# every choice
prepare:
  size: 4  # rows
train:
  epochs: 2
  rate: 1e-3
  meet: []
evaluate:
  k: 1
"""

COMMON = """\
import base64, json, os, pathlib, signal, sys, time
from ruamel.yaml import YAML

params = YAML(typ="safe", pure=True).load(pathlib.Path("params.yaml").read_text())
home = pathlib.Path(os.environ["TINY_HOME"])

def write(path, text):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)

def ran(name):
    with (home / "runs.log").open("a") as log:
        log.write(name + "\\n")
"""

PREPARE = """\
from common import *

ran("prepare")
write("data/prepared/rows.txt", "row\\n" * params["prepare"]["size"])
"""

TRAIN = """\
from common import *

epochs = params["train"]["epochs"]
ran(f"train {epochs}")
given = os.environ.get("GIVEN", "no address")
print(f"images from {given}")
if epochs == 404:
    print("error: data/raw is missing: run download", file=sys.stderr)
    sys.exit(2)
if epochs == 500 and not (home / "crashed").exists():
    (home / "crashed").touch()
    sys.exit(f"crash at epoch 1 with {given}")
if epochs == 999:
    def stop(number, frame):
        (home / "stopped").write_text("saved")
        sys.exit(143)
    signal.signal(signal.SIGTERM, stop)
    (home / "pid").write_text(str(os.getpid()))
    while True:
        time.sleep(0.05)
for other in params["train"]["meet"]:
    # Two runs at once: each says that it is there, then waits for the other.
    (home / f"here-{epochs}").touch()
    while not (home / f"here-{other}").exists():
        time.sleep(0.02)
print(f"trained {epochs} epochs with flow run {os.environ.get('MSCLNET_FLOW_RUN_ID')}")
write("results/model/weights.txt", f"{epochs}")
write("results/train/run.json", json.dumps({"run_id": f"run-{epochs}", "home": os.environ["MSCLNET_HOME"]}))
"""

EVALUATE = """\
from common import *

ran("evaluate")
epochs = int(pathlib.Path("results/model/weights.txt").read_text())
write("results/metrics/metrics.json", json.dumps({"all": {"single": {"rank-1": epochs / 10, "mAP": epochs / 20}}}))
pathlib.Path("results/figures").mkdir(parents=True, exist_ok=True)
pathlib.Path("results/figures/cmc.png").write_bytes(base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQVR4nGP8z8DAwMDAxMDAwMDAAAANHQEDasKb6QAAAABJRU5ErkJggg=="
))
"""

# The command line without the schema of the real params.yaml.
COMMAND = """
from pipelines import cli
from pipelines.orchestration import experiments
experiments.load_params = lambda path: None
cli.main()
"""

# The same with DVC inside the command's process, where a test is not about the processes.
IN_ONE_PROCESS = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from in_process import dvc_in_process
with dvc_in_process():
{textwrap.indent(COMMAND, "    ")}
"""

FILES = {
    "dvc.yaml": STAGES,
    "params.yaml": PARAMS,
    "presets/smoke.yaml": PARAMS.replace("epochs: 2", "epochs: 1"),
    "common.py": COMMON,
    "prepare.py": PREPARE,
    "train.py": TRAIN,
    "evaluate.py": EVALUATE,
    ".gitignore": "/data/\n/results/\n/mlruns/\n/.prefect/\n__pycache__/\n",
}


def environment(home: Path) -> dict[str, str]:
    """Variables under which git and DVC see nothing of the machine's settings."""
    home.mkdir(parents=True, exist_ok=True)
    return {
        "TINY_HOME": str(home),
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "DVC_NO_ANALYTICS": "true",
        "DVC_SITE_CACHE_DIR": str(home / "site"),
        "GIT_CONFIG_NOSYSTEM": "1",
    }


def dvc(root: Path, *arguments: str) -> str:
    """Run `dvc` in the project as a user does; returns what it prints."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    code, output, errors = in_process.run(("dvc", *arguments), root, {**os.environ, "PATH": path})
    assert code == 0, output + errors
    return output


def git(root: Path, *arguments: str) -> str:
    """Run git in the project without refreshing its index."""
    variables = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", "-c", "user.name=tiny", "-c", "user.email=tiny@localhost", *arguments]
    return subprocess.run(command, cwd=root, env=variables, check=True, capture_output=True, text=True).stdout


def setup(folder: Path, monkeypatch: pytest.MonkeyPatch, *, processes: bool = False) -> tuple[Path, Path]:
    """A fresh project in `folder`, and the environment for it.

    Args:
        processes: Whether runs start DVC as a process: where that is the subject, and for several runs at a time.

    Returns:
        The project and the folder with what the programs report.
    """
    home = folder / "home"
    for name, value in environment(home).items():
        monkeypatch.setenv(name, value)
    for name in ("MSCLNET_HOME", "MSCLNET_FLOW_RUN_ID", "PREFECT_API_URL", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(
        "pipelines.orchestration.experiments.load_params", lambda path: None
    )  # another schema
    if not processes:
        for module in ("stage_process", "runs"):
            monkeypatch.setattr(f"pipelines.orchestration.{module}.run_dvc", in_process.run_dvc_here)
    root = folder / "project"
    shutil.copytree(_template(), root, symlinks=True)
    return root, home


@functools.cache
def _template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="tiny-project-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return create(folder / "project")


def create(root: Path) -> Path:
    """Write the project into the folder `root`, with one commit."""
    root.mkdir(parents=True)
    for name, text in FILES.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    git(root, "init", "--quiet", "--initial-branch=main")
    dvc(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=start")
    return root


def runs(home: Path) -> list[str]:
    """What has truly run so far, in order."""
    log = home / "runs.log"
    return log.read_text().splitlines() if log.exists() else []


def read_from(root: Path, rev: str, path: str) -> str:
    """A file of a commit."""
    return git(root, "show", f"{rev}:{path}")


def output_of(root: Path, rev: str, path: str) -> str:
    """A stage's output in a commit of the project, as the project's DVC cache keeps it."""
    lock = git(root, "show", f"{rev}:dvc.lock")
    stages = [line.strip(" :") for line in lock.splitlines() if line.startswith("  ") and line[2] != " "]
    files = output_files(lock, stages=stages, cache=cache_folder(root))
    return files[path].read_text()


def experiments(root: Path) -> dict[str, Any]:
    """`dvc exp show` as data: experiment name -> its parameters and metrics."""
    found = {}
    for base in json.loads(dvc(root, "exp", "show", "--json")):
        for experiment in base["experiments"] or []:
            data = experiment["revs"][0]["data"]
            found[experiment["name"]] = {
                "params": data["params"]["params.yaml"]["data"],
                "metrics": {path: entry.get("data") for path, entry in data["metrics"].items()},
            }
    return found


def wait_for(condition: Callable[[], bool], *, what: str, seconds: float = 900, every: float = 0.02) -> None:
    """Wait until the condition holds; fail when it never does. Ask a server less often: answering takes it long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        time.sleep(every)


def lives(pid: int) -> bool:
    """Whether a process with this number runs; one that ended and was not reaped yet does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
