"""The training stage, killed and started again."""

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import time

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


def start(project):
    """The stage as a process that leads a session, to be stopped once its first checkpoint lies on the disk."""
    process = subprocess.Popen(
        ["python", "-m", "pipelines.stages.train"],
        cwd=project.root,
        env=project.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
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


def last_run(project):
    """Client and the newest run."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project.root}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("msclnet-smoke")
    assert experiment is not None
    return client, client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])[0]


def checkpoints(project):
    return sorted(project.root.glob("checkpoints/*/epoch-*.pt"))


@pytest.mark.parametrize(
    ("how", "status"), [(signal.SIGKILL, "RUNNING"), (signal.SIGTERM, "KILLED")], ids=["SIGKILL", "SIGTERM"]
)
def test_a_stopped_training_ends_as_if_nothing_had_happened(project, how, status):
    """It goes on in the same MLflow run, after an edit of what does not concern it, and while it is watched."""
    project.edit("  epochs: 3", "  epochs: 40")
    forget_checkpoints(project)
    process = start(project)
    # As schedulers do it: every process of the job, those that prepare batches included.
    os.killpg(process.pid, how)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 143)
    place = checkpoints(project)[-1]
    if how == signal.SIGTERM:
        assert "Traceback" not in errors.decode()
        told = errors.decode().splitlines()[-1]
        epoch, _, step = place.stem.partition(".step-")
        words = f"to resume after epoch {int(epoch.removeprefix('epoch-'))}"
        words += f" and {int(step)} steps of the next" if step else ""
        assert told == f"stopped by SIGTERM: start the same command again {words} (saved in {place.parent})"

    client, stopped = last_run(project)
    assert stopped.info.status == status

    project.edit("map_identities: 4", "map_identities: 5")
    project.edit("profile: 0", "profile: 2")
    again = project.run("python", "-m", "pipelines.stages.train", MSCLNET_KEEP_CHECKPOINTS="3")
    assert "resumed after epoch" in again.stdout
    resumed = {name: (project.root / "results/train" / name).read_bytes() for name in RESULTS}
    resumed_history = history(project)
    run = json.loads((project.root / "results/train/run.json").read_text())
    assert run["run_id"] == stopped.info.run_id
    assert client.get_run(run["run_id"]).info.status == "FINISHED"
    assert [path.stem for path in checkpoints(project)] == [f"epoch-{epoch:05d}" for epoch in (38, 39, 40)]

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
    project.edit("  epochs: 3", "  epochs: 4000")
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
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "error: a process that prepares batches failed" in errors.decode()
    assert "Traceback" not in errors.decode()
    assert checkpoints(project)
    assert all(read_checkpoint(path)["progress"]["epoch"] > 0 for path in checkpoints(project))
    assert last_run(project)[1].info.status == "FAILED"
    forget_checkpoints(project)
