"""The whole pipeline at smoke size, once by DVC and once as a flow: DVC, MLflow and Prefect."""

import csv
import json
import re
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from smoke_project import PASSWORDS, SECRETS, ask
from tiny_project import wait_for

from msclnet.embedding import load_embedder
from msclnet.retrieval.calibration import read_calibration
from msclnet.tracking.registered_model import downloaded_model
from msclnet.tracking.server import connect
from pipelines.stages.gate import consider
from pipelines.stages.presets import preset_params

pytestmark = pytest.mark.pipeline

STAGES = ["download", "preprocess", "train", "embed", "evaluate", "visualize"]
FIGURES = {"heatmaps", "top10", "tsne", "distances", "training", "cmc", "reliability"}


def client(project):
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{project.root}/mlruns/mlflow.db")


def reference(project):
    return json.loads((project.root / "results/train/run.json").read_text())


def test_every_stage_ran_once_and_left_its_outputs(finished):
    status = finished.run("dvc", "status").stdout
    assert "up to date" in status
    with zipfile.ZipFile(finished.root / "data/raw/images.zip") as archive:
        assert "exp/train_id.txt" in archive.namelist()
    rows = list(csv.DictReader((finished.root / "data/processed/manifest.csv").open()))
    for split in ("train", "val", "test"):
        images = np.load(finished.root / f"data/processed/images_{split}.npy", mmap_mode="r")
        assert images.shape == (sum(row["split"] == split for row in rows), 96, 48, 3)


def holding(secret: str, folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 5
    return [path for path in files if secret.encode() in path.read_bytes()]


def test_no_secret_of_the_environment_is_in_any_file(finished):
    """Reports, run.json, dvc.lock, the cache, MLflow's database and artifacts."""
    for secret in PASSWORDS:
        assert holding(secret, finished.root) == []


def test_pictures_are_images_of_some_size(finished):
    pictures = {path.stem: path for path in (finished.root / "results/figures").glob("*.png")}
    assert set(pictures) == FIGURES
    for path in [*pictures.values(), finished.root / "results/preprocess/augmentation.png"]:
        with Image.open(path) as image:
            assert min(image.size) > 300
            assert np.asarray(image.convert("L")).std() > 5, f"{path} is blank"


def test_metrics_carry_their_protocol_and_stand_in_dvc(finished):
    reports = json.loads((finished.root / "results/metrics/report.json").read_text())
    assert {(r["mode"], r["shots"], r["feature"]) for r in reports} == {
        (mode, shots, feature)
        for mode in ("all", "indoor")
        for shots in (1, 10)
        for feature in ("bnneck", "pooled", "random", "colour histogram")
    }
    for report in reports:
        assert report["dataset"] == "synthetic"
        assert (report["sampler"], report["trials"]) == ("agw", 10)
        assert (report["flip"], report["re_ranking"]) == (False, False)
        own = report["feature"] in ("bnneck", "pooled")
        assert report["embedding"] == ({"backend": "torch", "precision": "fp32"} if own else None)
    shown = finished.run("dvc", "metrics", "show").stdout.splitlines()
    assert [line.split()[0] for line in shown] == ["Path", "results/metrics/summary.json"]
    assert max(map(len, shown)) <= 120


def test_the_run_in_mlflow_has_params_metrics_figures_data_and_commit(finished):
    run = client(finished).get_run(reference(finished)["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.params["train.epochs"] == "3"
    assert run.data.params["loss.global.weight"] == "1.5"
    history = list(csv.DictReader((finished.root / "results/train/history.csv").open()))
    sent = client(finished).get_metric_history(run.info.run_id, "loss_identity")
    assert [point.value for point in sorted(sent, key=lambda p: p.step)] == [
        float(row["loss_identity"]) for row in history
    ]
    head = finished.run("git", "rev-parse", "HEAD").stdout.strip()
    assert run.data.tags["git_commit"] == head
    assert run.data.tags["git_dirty"] == "false"
    assert {"recipe", "processor", "precision"} <= set(run.data.tags)
    stages = ("download", "preprocess", "train", "embed", "evaluate")
    assert all(re.fullmatch("[0-9a-f]{16}", run.data.tags[f"data.{stage}"]) for stage in stages)
    assert run.data.tags["stage.visualize"] == "FINISHED"
    assert run.inputs is not None
    assert [entry.dataset.name for entry in run.inputs.dataset_inputs] == ["synthetic"]
    folders = {entry.path for entry in client(finished).list_artifacts(run.info.run_id)}
    assert {"train", "evaluate", "data", "figures", "promotion"} <= folders
    figures = {entry.path for entry in client(finished).list_artifacts(run.info.run_id, "figures")}
    assert {f"figures/{name}.png" for name in (*FIGURES, "augmentation")} <= figures
    assert "test/all-1shot-agw/bnneck/rank1" in run.data.metrics
    assert run.data.tags["evaluate.trials"] == "10"


def test_the_champion_gives_the_pipelines_vectors(finished):
    """tests/tracking/test_registry.py has it served by a process that has only MLflow's files."""
    aliases = client(finished).get_registered_model("msclnet-smoke").aliases
    assert set(aliases) == {"candidate", "champion"}
    promotion = json.loads((finished.root / "results/metrics/promotion.json").read_text())
    assert (promotion["status"], promotion["candidate"]["version"]) == ("promoted", str(aliases["champion"]))
    calibration = read_calibration(finished.root / "results/train/model.safetensors")
    assert calibration is not None
    assert calibration.dataset == "synthetic"
    images = np.load(finished.root / "data/processed/images_test.npy", mmap_mode="r")
    with np.load(finished.root / "results/embeddings/test.npz") as stored:
        bnneck, infrared = stored["bnneck"], stored["infrared"]
    with downloaded_model("models:/msclnet-smoke@champion", home=finished.root) as model:
        embed = load_embedder(model.weights, model.spec)
        for rows in (slice(0, 7), slice(0, None), np.flatnonzero(infrared)[:3]):
            vectors = embed(np.array(images[rows]), infrared[rows])
            np.testing.assert_allclose(vectors, bnneck[rows], rtol=1e-4, atol=1e-5)
        assert read_calibration(model.weights) == calibration


def test_a_flow_waits_for_a_person_and_promotes_what_he_approves(finished, prefect_api, monkeypatch):
    import prefect
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from pipelines import flows

    pause: Any = flows.pause_flow_run
    monkeypatch.setattr(flows, "pause_flow_run", lambda **how: pause(**how | {"poll_interval": 1}))
    registry = client(finished)
    registry.delete_registered_model_alias("msclnet-smoke", "champion")
    rules = preset_params("smoke", finished.root).promote.model_copy(update={"approval": True})
    waiting = consider(connect(finished.root), "msclnet-smoke", "1", rules)
    assert waiting.status == "awaits approval"
    monkeypatch.chdir(finished.root)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def ask_twice() -> None:
        with temporary_settings({PREFECT_API_URL: prefect_api}):
            for _ in range(2):
                prefect.flow(flows.ask_for_approval)(asdict(waiting))

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask_twice)
        for approve in (False, True):
            paused = []
            while not paused:
                assert not asking.done(), asking.exception()
                time.sleep(0.3)
                paused = ask(
                    f"{prefect_api}/flow_runs/filter",
                    {"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}}},
                )
            assert "champion" not in registry.get_registered_model("msclnet-smoke").aliases
            ask(f"{prefect_api}/flow_runs/{paused[0]['id']}/resume", {"run_input": {"approve": approve}})
        asking.result(900)
    assert str(registry.get_registered_model("msclnet-smoke").aliases["champion"]) == "1"


@pytest.mark.parametrize("own_process", [False, pytest.param(True, marks=pytest.mark.full_size)])
def test_a_flow_stands_in_prefect_dvc_and_mlflow_and_leaves_the_tree_alone(project, prefect_api, own_process):
    """At full size every stage is a process of its own, as `dvc repro` starts it."""
    before = project.run("git", "status", "--porcelain").stdout
    params = (project.root / "params.yaml").read_bytes()
    metrics = (project.root / "results/metrics/metrics.json").read_bytes()
    command = ("python", "-m", "pipelines", "train", "--name", "shorter", "--set", "train.epochs=2")
    project.run(*command, own_process=own_process, PREFECT_API_URL=prefect_api, **SECRETS)
    (flow_run,) = ask(f"{prefect_api}/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1})
    mine = {"flow_runs": {"id": {"any_": [flow_run["id"]]}}, "limit": 100}

    def tasks():
        return {task["name"]: task["state_name"] for task in ask(f"{prefect_api}/task_runs/filter", mine)}

    def logs():
        of_run = {"logs": {"flow_run_id": {"any_": [flow_run["id"]]}}, "limit": 200}
        return str(ask(f"{prefect_api}/logs/filter", of_run))

    wait_for(lambda: tasks() == dict.fromkeys(STAGES, "Completed"), what="the tasks", every=0.3)
    wait_for(lambda: "saved as experiment shorter" in logs(), what="the log", every=0.3)
    artifacts = ask(f"{prefect_api}/artifacts/filter", mine)
    shown = {entry["key"]: entry["data"] for entry in artifacts}
    statuses = {row["stage"]: row["status"] for row in json.loads(shown["stages"])}
    assert statuses == dict(zip(STAGES, ["restored"] * 2 + ["run"] * 4, strict=True))
    assert "all-1shot-agw" in shown["metrics"]
    assert {"champion", "gain"} & {row["rule"] for row in json.loads(shown["promotion"])}
    for name in FIGURES:
        assert "data:image/png;base64," in shown[f"figure-{name}"]
    for secret in PASSWORDS:
        assert secret not in f"{flow_run} {artifacts} {logs()}"
        assert holding(secret, project.root / "mlruns") == []

    assert project.run("git", "status", "--porcelain").stdout == before
    assert (project.root / "params.yaml").read_bytes() == params
    assert (project.root / "results/metrics/metrics.json").read_bytes() == metrics
    table = project.run("dvc", "exp", "show", "--csv").stdout
    row = next(line for line in csv.DictReader(table.splitlines()) if line["Experiment"] == "shorter")
    assert row["train.epochs"] == "2"
    experiment = client(project).get_experiment_by_name("msclnet-smoke")
    assert experiment is not None
    (run,) = client(project).search_runs(
        [experiment.experiment_id], filter_string="params.`train.epochs` = '2'"
    )
    assert (run.info.status, bool(run.data.tags["prefect_flow_run"])) == ("FINISHED", True)
