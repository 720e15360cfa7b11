"""The MLflow server ends in the middle of a training: it changes nothing, and the metrics can be sent again."""

import csv
import json
import subprocess
import time

import pytest
from mlflow_stores import MlflowServer, run_status, stored_metrics
from test_interrupted import forget_checkpoints
from test_interrupted import history as without_times

from msclnet.tracking.run import metric_name

pytestmark = pytest.mark.pipeline
EPOCHS = 30


def rows(project) -> list[dict[str, str]]:
    path = project.root / "results/train/history.csv"
    return list(csv.DictReader(path.open(newline=""))) if path.exists() else []


def test_a_training_outlives_its_server(project, tmp_path):
    project.edit("  epochs: 3", f"  epochs: {EPOCHS}")
    forget_checkpoints(project)
    server = MlflowServer(tmp_path / "server", project.root / "mlruns" / "mlflow.db")
    server.start()
    address = f"http://127.0.0.1:{server.port}"
    former = (project.root / "results/train/run.json").read_text()
    (project.root / "results/train/history.csv").unlink()
    try:
        process = subprocess.Popen(
            ["python", "-m", "pipelines.stages.train"],
            cwd=project.root,
            env=project.environment(MLFLOW_TRACKING_URI=address, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        deadline = time.monotonic() + 300
        while len(rows(project)) < 3:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        server.stop()
        before = len(rows(project))
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        assert "msclnet resend" in output
        history = rows(project)
        assert before < EPOCHS == len(history)
        weights = (project.root / "results/train/model.safetensors").read_bytes()

        server.start()
        run = json.loads((project.root / "results/train/run.json").read_text())
        assert run["run_id"] != json.loads(former)["run_id"]
        expected = {
            (metric_name(name), int(row["epoch"])): float(value)
            for row in history
            for name, value in row.items()
            if name != "epoch" and value
        }
        missed = expected.keys() - stored(server, run["run_id"]).keys()
        assert missed
        project.run(
            "python", "-m", "pipelines", "resend", "results/train/history.csv", "results/train/run.json",
            MLFLOW_TRACKING_URI=address,
        )  # fmt: skip
        sent = stored(server, run["run_id"])
        assert {place: sent[place] for place in expected} == expected
        assert run_status(server.database, run["run_id"]) == "FINISHED"
    finally:
        server.stop()

    disturbed = without_times(project)
    forget_checkpoints(project)
    project.run("python", "-m", "pipelines.stages.train")
    assert (project.root / "results/train/model.safetensors").read_bytes() == weights
    assert without_times(project) == disturbed


def stored(server: MlflowServer, run_id: str) -> dict[tuple[str, int], float]:
    return {(name, step): value for name, step, value in stored_metrics(server.database, run_id)}
