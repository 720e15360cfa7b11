"""Fixtures: one local database a session, an experiment a test, one registered network, a real MLflow server."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow_stores import MlflowServer, RegisteredNetwork, start_tracker
from safetensors.numpy import save_file

from msclnet.tracking.champion import set_champion
from msclnet.tracking.registry import log_model
from msclnet.tracking.run import Tracker


@pytest.fixture(scope="session")
def session_home(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """A home whose path holds what addresses encode; MLflow's loader of models takes no percent sign."""
    folder = tmp_path_factory.mktemp("home ü [1] ")
    (folder / "mlruns").mkdir()
    shutil.copy(empty_database, folder / "mlruns" / "mlflow.db")
    return folder


@pytest.fixture
def home(tmp_path: Path, session_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The session's home. The working folder is elsewhere, and must be left empty."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    yield session_home
    assert list(elsewhere.iterdir()) == []


@pytest.fixture
def experiment(request: pytest.FixtureRequest) -> str:
    """A name of the test's own, for its experiment and its registered model."""
    return request.node.name


@pytest.fixture
def start(home: Path, experiment: str) -> Iterator[Callable[..., Tracker]]:
    """Starts a tracker with small defaults; each is finished at the end."""
    begun: list[Tracker] = []

    def begin(**changes: Any) -> Tracker:
        begun.append(start_tracker(**({"home": home, "experiment": experiment} | changes)))
        return begun[-1]

    yield begin
    for tracker in begun:
        tracker.finish("FINISHED")


@pytest.fixture
def mlflow_server(tmp_path: Path, empty_database: Path) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path / "server", empty_database)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def log_small_model(tmp_path: Path) -> Callable[..., str | None]:
    """Logs and registers a model that can be stored but not run."""
    weights = tmp_path / "weights.safetensors"
    save_file({"matrix": np.zeros((3, 5), dtype=np.float32)}, weights)

    def log(tracker: Tracker, **changes: Any) -> str | None:
        arguments = {
            "weights": weights,
            "spec": {"tensor": "matrix"},
            "example": {"images": np.zeros((2, 48, 24, 3), np.uint8), "infrared": np.array([False, True])},
            "reference_vectors": np.zeros((2, 5), dtype=np.float32),
        }
        return log_model(tracker, **(arguments | changes))

    return log


@pytest.fixture(scope="session")
def registered_network(session_home: Path, tmp_path_factory: pytest.TempPathFactory) -> RegisteredNetwork:
    import torch
    from safetensors.torch import save_file as save_weights

    from msclnet.embedding import load_embedder
    from msclnet.models.build import build_network
    from pipelines.stages.presets import preset_params

    params = preset_params("smoke", Path(__file__).resolve().parents[2])
    spec = {"identities": 4, "model": params.section("model"), "synergy": params.section("synergy")}
    torch.manual_seed(0)
    weights = tmp_path_factory.mktemp("weights") / "model.safetensors"
    state = build_network(spec, pretrained=False).state_dict()
    save_weights({name: tensor.clone() for name, tensor in state.items()}, weights)
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 32, 3), dtype=np.uint8)
    infrared = np.array([True, False, False, True, True])
    vectors = load_embedder(weights, spec)(images, infrared)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        tracker = start_tracker(session_home, experiment="network")
        version = log_model(
            tracker,
            weights=weights,
            spec=spec,
            example={"images": images[:2], "infrared": infrared[:2]},
            reference_vectors=vectors[:2],
            name="network",
        )
        assert version is not None
        set_champion(tracker.server, version, name="network")
        tracker.finish("FINISHED")
    return RegisteredNetwork(
        tracker, version, weights, json.loads(json.dumps(spec)), images, infrared, vectors
    )
