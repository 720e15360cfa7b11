"""The stage `train` inside this process, on a few images of noise: how it ends, and what it leaves."""

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mlflow_stores import MlflowServer, run_status, stored_metrics

from msclnet.datasets.records import SPLITS, Modality, Record
from msclnet.errors import UserError
from msclnet.images.table import Entry, write_manifest
from msclnet.tracking.resend import read_reference, resend
from msclnet.tracking.run import metric_name
from msclnet.training.checkpoint import CheckpointFolder, read_checkpoint
from msclnet.training.history import read_history, write_history
from msclnet.training.loop import DivergedError
from msclnet.training.step import Step
from pipelines.stages import paths, training_run
from pipelines.stages.config import Params, check_params
from pipelines.stages.presets import load_preset
from pipelines.stages.train import open_training_data, train, training_key

ROOT = Path(__file__).resolve().parents[2]
IDENTITIES, HEIGHT, WIDTH = 4, 64, 32


def params(**train_section: Any) -> Params:
    values = load_preset("smoke", ROOT)
    values["preprocess"] |= {"height": HEIGHT, "width": WIDTH}
    values["train"] |= {"epochs": 2, "steps_per_epoch": 2, "precision": "fp32", **train_section}
    return check_params(values, source="smoke")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """One MLflow database for all tests."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "mlruns").mkdir()
    shutil.copy(empty_database, folder / "mlruns" / "mlflow.db")
    return folder


@pytest.fixture(autouse=True)
def project(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.rmtree(home / "checkpoints", ignore_errors=True)
    monkeypatch.setenv("MSCLNET_HOME", str(home))
    monkeypatch.setenv("MSCLNET_DEVICE", "cpu")
    monkeypatch.setenv("MSCLNET_WORKERS", "0")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    cameras: dict[int, Modality] = {1: "visible", 2: "visible", 3: "infrared", 6: "infrared"}
    records = [
        Record(f"{split}/{identity}/{camera}/{i}.jpg", identity, camera, modality, split)
        for place, split in enumerate(SPLITS)
        for identity in range(place * IDENTITIES, (place + 1) * IDENTITIES)
        for camera, modality in cameras.items()
        for i in range(2)
    ]
    paths.PROCESSED.mkdir(parents=True)
    write_manifest(paths.MANIFEST, [Entry(record, "0" * 64) for record in records])
    noise = np.random.default_rng(0)
    for split in SPLITS:
        count = sum(record.split == split for record in records)
        pixels = noise.integers(0, 256, size=(count, HEIGHT, WIDTH, 3), dtype=np.uint8)
        np.save(paths.images_of(split), pixels)
    return tmp_path


def checkpoints(home: Path) -> list[Path]:
    return sorted((home / "checkpoints").glob("*/epoch-*.pt"))


def in_step(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], Any]) -> None:
    whole, steps = Step.take, []

    def take(self: Step, *tensors: Any, **options: Any) -> Any:
        steps.append(1)
        if len(steps) == number:
            act()
        return whole(self, *tensors, **options)

    monkeypatch.setattr(Step, "take", take)


def fail(error: Exception) -> Any:
    raise error


def test_a_divergence_is_recorded_in_a_file(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DivergedError, match=r"train\.norm_limit") as caught:
        train(params(norm_limit=1e-3))
    found = json.loads(paths.DIVERGED.read_text(), parse_constant=lambda name: fail(ValueError(name)))
    assert set(found) == {"message", "epoch", "step", "last_steps"}
    assert (found["message"], found["epoch"], found["step"]) == (str(caught.value), 1, 2)
    assert [step["step"] for step in found["last_steps"]] == [1, 2]
    assert all(set(step) == {"step", "total", "feature_norm"} for step in found["last_steps"])
    assert found["last_steps"][1]["feature_norm"] > 1e-3
    assert str(paths.DIVERGED) in capsys.readouterr().out
    assert not paths.WEIGHTS.exists()

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home}/mlruns/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'msclnet-smoke'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"
    assert [file.path for file in client.list_artifacts(run.info.run_id, "train")] == ["train/diverged.json"]
    logged = client.get_metric_history(run.info.run_id, "diverging/total")
    assert [metric.step for metric in logged] == [1, 2]

    train(params())
    assert not paths.DIVERGED.exists(), "a training that starts removes what a former one left"


def test_values_that_are_not_finite_are_null(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Step.take

    def spoil(self: Step, *tensors: Any, **options: Any) -> Any:
        measured = whole(self, *tensors, **options)
        return measured | {"total": torch.tensor(float("nan"))} if len(seen) == 2 else measured

    seen: list[int] = []
    monkeypatch.setattr(Step, "take", lambda *a, **o: (seen.append(1), spoil(*a, **o))[1])
    with pytest.raises(DivergedError, match="total = nan"):
        train(params())
    found = json.loads(paths.DIVERGED.read_text(), parse_constant=lambda name: fail(ValueError(name)))
    assert [step["total"] is None for step in found["last_steps"]] == [False, True]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 512.00 MiB."),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        MemoryError(),
        RuntimeError("can't start new thread"),
    ],
    ids=["GPU", "CPU", "Python", "thread"],
)
def test_without_memory_the_checkpoint_stays_and_the_remedy_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    in_step(monkeypatch, 4, lambda: fail(error))
    with pytest.raises(UserError, match=r"memory is used up .*train\.batch.*last checkpoint"):
        train(params())
    (left,) = checkpoints(home)
    assert read_checkpoint(left)["progress"]["epoch"] == 1
    monkeypatch.undo()


def test_other_runtime_errors_stay_defects(monkeypatch: pytest.MonkeyPatch) -> None:
    in_step(monkeypatch, 1, lambda: fail(RuntimeError("shapes do not fit")))
    with pytest.raises(RuntimeError, match=r"^shapes do not fit$"):
        train(params())


def test_too_little_shared_memory_is_reported_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSCLNET_WORKERS", "8")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100_000))
    in_step(monkeypatch, 1, lambda: pytest.fail("a step was taken"))
    with pytest.raises(UserError, match=r"/dev/shm.*--shm-size.*MSCLNET_WORKERS"):
        train(params())


def test_a_checkpoint_of_another_configuration_is_refused(home: Path) -> None:
    """It cannot get there by itself, for the folder is named after the configuration; a user can copy it."""
    key = training_key(params(), open_training_data(), device="cpu")
    CheckpointFolder(home / "checkpoints" / key).save({"extra": {"key": "another"}}, epoch=99)
    with pytest.raises(UserError, match=r"another configuration \(another\).*remove the folder"):
        train(params())


def test_a_training_that_is_done_is_not_repeated(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its checkpoint stays for an hour; only the result is written again, by the same MLflow run."""
    train(params())
    first = paths.WEIGHTS.read_bytes(), json.loads(paths.RUN.read_text())["run_id"]
    shutil.rmtree(paths.TRAIN)
    in_step(monkeypatch, 1, lambda: pytest.fail("a step was taken"))
    train(params())
    assert (paths.WEIGHTS.read_bytes(), json.loads(paths.RUN.read_text())["run_id"]) == first
    assert [row["epoch"] for row in read_history(paths.HISTORY)] == [1, 2]


TIMES = re.compile("images_per_second|share_waiting_for_input|seconds_left")


def weights_and_history() -> tuple[bytes, list[dict[str, float]]]:
    rows = read_history(paths.HISTORY)
    kept = [{name: value for name, value in row.items() if not TIMES.fullmatch(name)} for row in rows]
    return paths.WEIGHTS.read_bytes(), kept


def test_a_server_that_ends_in_mid_training_changes_nothing_and_gets_the_metrics_later(
    home: Path,
    tmp_path: Path,
    empty_database: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    train(params())
    undisturbed = weights_and_history()
    shutil.rmtree(home / "checkpoints")
    server = MlflowServer(tmp_path / "server", empty_database)

    def stop_after_the_first_epoch(path: Path, history: Sequence[Mapping[str, float]]) -> None:
        if len(history) == 1:
            server.stop()
        write_history(path, history)

    monkeypatch.setattr(training_run, "write_history", stop_after_the_first_epoch)
    monkeypatch.setattr("msclnet.tracking.sender._SECONDS_BETWEEN_ATTEMPTS", 1.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.port}")
    server.start()
    try:
        train(params())
    finally:
        server.stop()
    assert weights_and_history() == undisturbed
    assert "msclnet resend" in caplog.text

    reference = read_reference(paths.RUN)
    expected = {
        (metric_name(name), int(row["epoch"])): value
        for row in read_history(paths.HISTORY)
        for name, value in row.items()
        if name != "epoch"
    }
    stored = stored_metrics(server.database, reference["run_id"])
    assert expected.keys() - {(name, step) for name, step, _ in stored}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{server.database}")  # the same store
    resend(paths.HISTORY, reference, home=home)
    stored = stored_metrics(server.database, reference["run_id"])
    assert {(name, step): value for name, step, value in stored} == expected
    assert run_status(server.database, reference["run_id"]) == "FINISHED"
