"""The training stage, killed and started again."""

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import psutil
import pytest

from msclnet.training.checkpoint import read_checkpoint

pytestmark = pytest.mark.pipeline

RESULTS = ("model.safetensors", "network.json")
TIMES = re.compile("images_per_second|share_waiting_for_input|seconds_left")


def history(project):
    lines = [
        line.split(",") for line in (project.root / "results/train/history.csv").read_text().splitlines()
    ]
    kept = [i for i, name in enumerate(lines[0]) if not TIMES.fullmatch(name)]
    return [[line[i] for i in kept] for line in lines]


# The stage, which waits for a line once its first checkpoint is written: the moment of the signal is the same always.
WAITING = """
import runpy, sys
from msclnet.training.checkpoint import CheckpointFolder

save = CheckpointFolder.save

def save_and_wait(*arguments, **how):
    CheckpointFolder.save = save
    save(*arguments, **how)
    print("saved", flush=True)
    sys.stdin.readline()

CheckpointFolder.save = save_and_wait
runpy.run_module("pipelines.stages.train", run_name="__main__")
"""


def start(project):
    """The stage as a process that leads a session, with its first checkpoint on the disk."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING],
        cwd=project.root,
        env=project.environment(MSCLNET_WORKERS="1"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    lines = iter(process.stdout.readline, "")
    assert "saved\n" in lines, process.communicate()[1]
    return process


def forget_checkpoints(project):
    for path in project.root.glob("checkpoints/*/*"):
        path.unlink()


def last_run(project):
    """Client and the newest run."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project.root}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("msclnet-smoke")
    assert experiment is not None
    return client, client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])[0]


def checkpoints(project):
    return sorted(project.root.glob("checkpoints/*/epoch-*.pt"))


def stopped(project, how):
    """Exit code, errors and MLflow run of a training that is started and, after its next checkpoint, stopped."""
    process = start(project)
    # As schedulers do it: every process of the job, those that prepare batches included.
    os.killpg(process.pid, how)
    _, errors = process.communicate(timeout=900)
    assert "Traceback" not in errors
    return process.returncode, errors, last_run(project)[1].info


def test_a_training_that_is_killed_and_stopped_ends_as_if_nothing_had_happened(project):
    """It goes on in the same MLflow run, after an edit of what does not concern it, and while it is watched."""
    project.edit("  epochs: 3", "  epochs: 4")
    forget_checkpoints(project)
    code, _, killed = stopped(project, signal.SIGKILL)
    assert (code, killed.status) == (-signal.SIGKILL, "RUNNING")
    place = checkpoints(project)[-1]
    assert place.stem == "epoch-00001"
    code, errors, ended = stopped(project, signal.SIGTERM)
    assert (code, ended.status, ended.run_id) == (143, "KILLED", killed.run_id)
    words = "stopped by SIGTERM: start the same command again to resume after epoch 2"
    assert errors.splitlines()[-1] == f"{words} (saved in {place.parent})"

    project.edit("map_identities: 4", "map_identities: 5")
    project.edit("profile: 0", "profile: 2")
    again = project.run("python", "-m", "pipelines.stages.train", MSCLNET_KEEP_CHECKPOINTS="3")
    assert "resumed after epoch" in again.stdout
    resumed = {name: (project.root / "results/train" / name).read_bytes() for name in RESULTS}
    resumed_history = history(project)
    run = json.loads((project.root / "results/train/run.json").read_text())
    assert run["run_id"] == killed.run_id
    client = last_run(project)[0]
    assert client.get_run(run["run_id"]).info.status == "FINISHED"
    assert [path.stem for path in checkpoints(project)] == [f"epoch-{epoch:05d}" for epoch in (2, 3, 4)]

    (trace,) = (project.root / "profiles" / place.parent.name).iterdir()
    assert str(trace) in again.stdout
    assert [entry.path for entry in client.list_artifacts(run["run_id"], "profile")] == [
        f"profile/{trace.name}"
    ]
    with gzip.open(trace, "rt") as file:
        assert any(event.get("name") == "aten::conv2d" for event in json.load(file)["traceEvents"])

    forget_checkpoints(project)
    project.run("python", "-m", "pipelines.stages.train")
    assert {name: (project.root / "results/train" / name).read_bytes() for name in RESULTS} == resumed
    assert history(project) == resumed_history
    shutil.rmtree(project.root / "profiles")


def test_a_killed_worker_and_a_second_training_are_told_and_cost_nothing(project):
    forget_checkpoints(project)
    process = start(project)
    workers = psutil.Process(process.pid).children()
    refused = project.run("python", "-m", "pipelines.stages.train", ok=False)
    assert refused.returncode == 2
    assert "error: another process is training this very configuration" in refused.stderr
    assert "Traceback" not in refused.stderr

    assert process.poll() is None
    assert workers
    for worker in workers:
        worker.kill()
    _, errors = process.communicate("go on\n", timeout=900)
    assert process.returncode == 2
    assert "error: a process that prepares batches failed" in errors
    assert "Traceback" not in errors
    assert checkpoints(project)
    assert all(read_checkpoint(path)["progress"]["epoch"] > 0 for path in checkpoints(project))
    assert last_run(project)[1].info.status == "FAILED"
    forget_checkpoints(project)
