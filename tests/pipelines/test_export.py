"""Exporting, from the command line to the files it leaves, and what stands in MLflow afterwards."""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from model_specs import network_of, random_images
from translated import HEIGHT, SPEC, WIDTH, graph_of, save_weights

from msclnet.datasets.records import Record
from msclnet.export.onnx import onnx_graph
from msclnet.export.openvino import signal_stack_kept
from msclnet.export.stream import optional
from msclnet.images.table import Entry, file_digest, write_manifest
from pipelines import cli
from pipelines.release import export
from pipelines.settings import QUIET

IMAGES = {
    "val": random_images(5, HEIGHT, WIDTH, seed=1).numpy(),
    "test": random_images(9, HEIGHT, WIDTH, seed=2).numpy(),
}
FILES = {f"{modality}.{ending}" for modality in ("visible", "infrared") for ending in ("onnx", "xml", "bin")}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a project holds after `dvc repro train`, as far as the export reads it."""
    root = tmp_path_factory.mktemp("template")
    for folder in ("results/train", "data/processed"):
        (root / folder).mkdir(parents=True)
    save_weights(root / "results/train/model.safetensors")
    (root / "results/train/network.json").write_text(json.dumps(SPEC))
    run = {"run_id": "0" * 32, "experiment": "tests", "run_name": "small", "tracking_uri": "unused"}
    (root / "results/train/run.json").write_text(json.dumps(run))
    entries = []
    for split, images in IMAGES.items():
        np.save(root / f"data/processed/images_{split}.npy", images)
        for row in range(len(images)):
            modality = "infrared" if row % 3 == 0 else "visible"
            record = Record(split=split, identity=row, camera=1, modality=modality, path=f"{split}/{row}.jpg")  # pyright: ignore
            entries.append(Entry(record, "0" * 64))
    write_manifest(root / "data/processed/manifest.csv", entries)
    return root


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    shutil.copytree(template, root)
    monkeypatch.chdir(root)
    monkeypatch.setenv("MSCLNET_THREADS", "1")
    monkeypatch.setenv("MSCLNET_HOME", str(root))
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return root


@pytest.fixture(autouse=True)
def exported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All tests export the same network, which takes seconds."""
    monkeypatch.setattr(export, "onnx_graph", graph_of)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """Reports that would go to MLflow; the last test has a real one."""
    reports: list[Mapping[str, Any]] = []
    monkeypatch.setattr(export, "log", lambda out, report: reports.append(report))
    return reports


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The message of an export that must end with one."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["export", *arguments])
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    return message


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def by_onnxruntime(path: Path, images: np.ndarray) -> np.ndarray:
    return np.asarray(onnxruntime.InferenceSession(path).run(["bnneck"], {"images": images})[0])


def lowest_cosine(a: np.ndarray, b: np.ndarray) -> float:
    unit_a, unit_b = (x.astype(float) / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return float((unit_a * unit_b).sum(axis=1).min())


def test_the_files_compute_what_the_network_computes(project: Path, logged: list) -> None:
    export.export(export.OUT)
    out = project / "results/export"
    assert {path.name for path in out.iterdir()} == FILES | {"export.json"}
    report = json.loads((out / "export.json").read_text())
    assert logged == [report]
    assert report["files"] == {name: file_digest(out / name) for name in FILES}
    assert report["weights_sha256"] == file_digest(project / "results/train/model.safetensors")
    network = network_of(SPEC).eval()
    for modality in ("visible", "infrared"):
        with torch.inference_mode():
            _, wanted = network.embed(torch.from_numpy(IMAGES["test"]), infrared=modality == "infrared")
        found = by_onnxruntime(out / f"{modality}.onnx", IMAGES["test"])
        assert lowest_cosine(found, wanted.numpy()) > 0.99999
        with signal_stack_kept():
            core = optional("openvino", purpose="the test").Core()
            compiled = core.compile_model(out / f"{modality}.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        assert lowest_cosine(compiled({"images": IMAGES["test"]})["bnneck"], wanted.numpy()) > 0.99999
        for ending in ("onnx", "xml"):
            compared = report["agreement"][f"{modality}.{ending}"]
            assert compared["images"] == {"visible": 3 + 6, "infrared": 2 + 3}[modality]
            assert 0.99999 < compared["cosine"] <= 1.000001


def test_images_of_val_and_test_are_looked_at_from_end_to_end(project: Path) -> None:
    for modality, rows in (("infrared", {"val": [0, 3], "test": [0, 3, 6]}), ("visible", {"val": [1, 2, 4]})):
        found = export.real_images(modality)
        wanted = np.concatenate([IMAGES[split][chosen] for split, chosen in rows.items()])
        np.testing.assert_array_equal(found[: len(wanted)], wanted)


def test_many_images_are_thinned_out_evenly(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "IMAGES", 3)
    np.testing.assert_array_equal(export.real_images("visible")[3:], IMAGES["test"][[1, 4, 8]])


@pytest.mark.parametrize("name", ["model.safetensors", "network.json", "run.json"])
def test_no_trained_network(project: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (project / "results/train" / name).unlink()
    message = refused(capsys)
    assert f"results/train/{name}: no such file" in message
    assert "dvc repro train" in message
    assert not (project / "results/export").exists()


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    message = refused(capsys)
    assert f"the package {package}" in message
    assert "--editable '.[export]'" in message
    assert not (project / "results/export").exists()


@pytest.mark.parametrize("place", ["a_file", "a_file/below", "/proc/nowhere"])
def test_a_folder_that_cannot_be_written(
    project: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    (project / "a_file").write_text("mine")
    message = refused(capsys, "--out", place)
    assert f"--out {place}: cannot be written" in message
    assert "give another folder" in message
    assert (project / "a_file").read_text() == "mine"


def test_without_openvino_and_mlflow_there_is_onnx_alone_and_nothing_of_a_former_network(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = project / "elsewhere"
    out.mkdir()
    for name in ("visible.xml", "visible.bin", "infrared.onnx", "notes.txt"):
        (out / name).write_text("former")
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    with pytest.raises(SystemExit, match="2"):
        cli.main(["export", "--out", "elsewhere"])
    output = capsys.readouterr()
    assert "openvino is not installed" in output.out
    assert output.err.startswith("error: ")
    assert "http://127.0.0.1:1" in output.err
    files = {"visible.onnx", "infrared.onnx"}
    assert set(contents(out)) == {*files, "export.json", "notes.txt"}
    assert (out / "notes.txt").read_text() == "former"
    onnx.checker.check_model(out / "infrared.onnx")
    assert set(json.loads((out / "export.json").read_text())["files"]) == files


def test_a_graph_that_is_wrong_is_not_kept(
    project: Path, logged: list, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The streams are exchanged for the second graph, as a defect of a translation would."""
    out = project / "results/export"
    out.mkdir(parents=True)
    (out / "visible.onnx").write_text("former")
    monkeypatch.setattr(
        export, "onnx_graph", lambda network, infrared, **size: graph_of(network, infrared=False, **size)
    )
    monkeypatch.setitem(sys.modules, "openvino", None)
    message = refused(capsys)
    assert "infrared.onnx does not compute what the network computes" in message
    assert "nothing was written" in message
    assert contents(out) == {"visible.onnx": b"former"}
    assert logged == []


@pytest.mark.pipeline
def test_a_trained_projects_export_gives_the_stages_features_and_stands_in_mlflow(
    finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against what the stage `embed` wrote, and with the real MLflow database."""
    from mlflow import MlflowClient

    monkeypatch.setattr(export, "onnx_graph", onnx_graph)
    try:
        printed = finished.run("python", "-m", "pipelines", "export").stdout
        out = finished.root / "results/export"
        assert f"{Path('results/export/infrared.onnx')}: cosine" in printed
        images = np.load(finished.root / "data/processed/images_test.npy")
        with np.load(finished.root / "results/embeddings/test.npz") as stored:
            for modality in ("visible", "infrared"):
                rows = stored["infrared"] == (modality == "infrared")
                found = by_onnxruntime(out / f"{modality}.onnx", images[rows])
                assert lowest_cosine(found, stored["bnneck"][rows]) > 0.9999
        client = MlflowClient(f"sqlite:///{finished.root}/mlruns/mlflow.db")
        run = client.get_run(json.loads((finished.root / "results/train/run.json").read_text())["run_id"])
        kept = {entry.path for entry in client.list_artifacts(run.info.run_id, "export")}
        assert kept == {f"export/{name}" for name in (*FILES, "export.json")}
        assert run.data.metrics["export/infrared.xml/cosine"] > 0.9999
        assert run.data.tags["stage.export"] == "FINISHED"
        assert run.data.tags["export.opset"] == "18"
        assert run.info.status == "FINISHED"
        assert json.loads(finished.run("dvc", "status", "--json").stdout) == {}
    finally:
        shutil.rmtree(finished.root / "results/export", ignore_errors=True)
