"""A grid through the real stages: its MLflow runs, its records and the report over them."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient
from smoke_project import Project, copy_project

GRID = """\
name: baseline
title: Two models
preset: smoke
seeds: [0]
until: evaluate
score: test
baseline: B
rows:
  - name: B
    overrides:
      loss.synergy_identity.on: false
      loss.target.on: false
      loss.local.on: false
      loss.global.on: false
      loss.sub.on: false
      loss.intra.on: false
      loss.inter.on: false
  - name: MC
    overrides: { loss.target.on: false, loss.sub.on: false, loss.intra.on: false, loss.inter.on: false }
  - name: runaway
    overrides: { train.norm_limit: 1.0e-6 }
  - name: whole
"""


def records(project: Project) -> dict[str, dict]:
    """By row."""
    lines = (project.root / "experiments/results/baseline.jsonl").read_text().splitlines()
    return {record["row"]: record for record in map(json.loads, lines)}


@pytest.mark.pipeline
def test_a_grid_through_the_real_stages(tmp_path: Path, empty_database: Path) -> None:
    project = copy_project(tmp_path / "project", empty_database)
    (project.root / "experiments/baseline.yaml").write_text(GRID)
    done = project.run("python", "-m", "pipelines", "grid", "baseline")

    found = records(project)
    assert list(found) == ["B", "runaway", "whole"]
    assert "identical by construction to B" in done.stdout
    whole = found["whole"]
    shown = json.loads(project.run("dvc", "exp", "show", "--json").stdout)
    metrics = {
        experiment["name"]: experiment["revs"][0]["data"]["metrics"]["results/metrics/summary.json"]["data"]
        for base in shown
        for experiment in base["experiments"] or []
    }
    assert sorted(metrics) == ["baseline-B-s0", "baseline-whole-s0"]
    shown = metrics["baseline-whole-s0"]
    assert shown["val_score"] == whole["figures"]["validation"]["score"]
    first = next(iter(whole["figures"]["test"].values()))["mean"]
    assert {name: shown[name] for name in first} == first
    assert whole["training"]["steps"] == 12
    assert whole["training"]["seconds"] > 0
    assert len(whole["history"]["loss_target"]) == 3
    assert whole["data"]["data/processed/manifest.csv"] == found["B"]["data"]["data/processed/manifest.csv"]
    runaway = found["runaway"]
    assert runaway["diverged"].startswith("training stopped in epoch 1, step 4: the pooled feature")
    assert runaway["last_steps"]["step"] == [1, 2, 3, 4]
    assert all(norm > 0 for norm in runaway["last_steps"]["feature_norm"])

    client = MlflowClient(f"sqlite:///{project.root}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("msclnet-smoke")
    assert experiment is not None
    runs = {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}
    (parent,) = [run for run in runs.values() if run.data.tags.get("grid") == "baseline"]
    children = {run.data.tags["grid_cell"]: run for run in runs.values() if run is not parent}
    assert sorted(children) == ["baseline-B-s0", "baseline-runaway-s0", "baseline-whole-s0"]
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}
    assert children["baseline-whole-s0"].info.run_id == whole["mlflow_run"]
    assert (parent.info.status, children["baseline-runaway-s0"].info.status) == ("FINISHED", "FAILED")

    # The same grid again: nothing runs, and the parent goes on.
    project.run("python", "-m", "pipelines", "grid", "baseline")
    assert len(client.search_runs([experiment.experiment_id])) == len(runs)

    done = project.run("python", "-m", "pipelines", "report")
    assert "logged to 1 MLflow run," in done.stdout
    page = (project.root / "results/report/report.md").read_text()
    assert "this project (grid baseline, seed 0) | MSCLNet" in page.replace("**", "")
    rows = [" ".join(line.split()) for line in page.splitlines()]
    assert any(
        row.startswith("| baseline, runaway | 0 | training stopped in epoch 1, step 4") for row in rows
    )
    assert "figure5-mscl" in page
    artifacts = [file.path for file in client.list_artifacts(parent.info.run_id, "report")]
    assert {"report/index.html", "report/report.md", "report/figure5-distances.png"} <= set(artifacts)
