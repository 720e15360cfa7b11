"""The training stage, killed and started again."""

import json
import os
import re
import signal
import subprocess
import time

import pytest

pytestmark = pytest.mark.pipeline

RESULTS = ("model.safetensors", "network.json")
TIMES = re.compile("images_per_second|share_waiting_for_input")


def history(project):
    lines = [
        line.split(",") for line in (project.root / "results/train/history.csv").read_text().splitlines()
    ]
    kept = [i for i, name in enumerate(lines[0]) if not TIMES.fullmatch(name)]
    return [[line[i] for i in kept] for line in lines]


def start(project):
    """The stage as a process, stopped from outside once its first checkpoint lies on the disk."""
    process = subprocess.Popen(
        ["python", "-m", "pipelines.train"],
        cwd=project.root,
        env=project.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 300
    while not list(project.root.glob("checkpoints/*/epoch-*.pt")):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def forget_checkpoints(project):
    for path in project.root.glob("checkpoints/*/*"):
        path.unlink()


@pytest.mark.parametrize(
    ("how", "status"), [(signal.SIGKILL, "RUNNING"), (signal.SIGTERM, "KILLED")], ids=["SIGKILL", "SIGTERM"]
)
def test_a_stopped_training_ends_as_if_nothing_had_happened(project, how, status):
    """It also goes on after an edit of a section that does not concern it, and in the same MLflow run."""
    from mlflow import MlflowClient

    project.edit("  epochs: 3", "  epochs: 40")
    forget_checkpoints(project)
    process = start(project)
    os.kill(process.pid, how)
    process.communicate(timeout=60)
    assert process.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 143)

    client = MlflowClient(f"sqlite:///{project.root}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("msclnet-smoke")
    assert experiment is not None
    stopped = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])[0]
    assert stopped.info.status == status

    project.edit("map_identities: 4", "map_identities: 5")
    again = project.run("python", "-m", "pipelines.train")
    assert "going on after epoch" in again.stdout
    resumed = {name: (project.root / "results/train" / name).read_bytes() for name in RESULTS}
    resumed_history = history(project)
    run = json.loads((project.root / "results/train/run.json").read_text())
    assert run["run_id"] == stopped.info.run_id
    assert client.get_run(run["run_id"]).info.status == "FINISHED"

    forget_checkpoints(project)
    project.run("python", "-m", "pipelines.train")
    assert {name: (project.root / "results/train" / name).read_bytes() for name in RESULTS} == resumed
    assert history(project) == resumed_history
