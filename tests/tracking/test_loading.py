"""Registered models loaded back into this process, with their own code and without disturbing this one's."""

import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow_stores import MlflowServer
from safetensors.torch import save_file

import msclnet
import msclnet.embedding
from msclnet.embedding import load_embedder
from msclnet.errors import UserError
from msclnet.models.build import build_network
from msclnet.tracking.loading import load_registered
from msclnet.tracking.model import log_model
from msclnet.tracking.registry import promote
from msclnet.tracking.run import Tracker
from pipelines.stages.presets import preset_params

PARAMS = preset_params("smoke", Path(__file__).resolve().parents[2])
SPEC = {"identities": 4, "model": PARAMS.section("model"), "synergy": PARAMS.section("synergy")}
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 64, 32, 3), dtype=np.uint8)
INFRARED = np.array([True, False, False, True, True])
Start = Callable[..., Tracker]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    state = build_network(SPEC, pretrained=False).state_dict()
    save_file({name: tensor.clone() for name, tensor in state.items()}, path)
    return path


def register(tracker: Tracker, weights: Path, **changes) -> str:
    example = {"images": IMAGES[:2], "infrared": INFRARED[:2]}
    vectors = load_embedder(weights, SPEC)(example["images"], example["infrared"])
    version = log_model(
        tracker, weights=weights, spec=SPEC, example=example, reference_vectors=vectors, **changes
    )
    assert version is not None
    return version


def test_the_champion_embeds_as_the_pipeline_does(start: Start, home: Path, weights: Path) -> None:
    tracker = start()
    version = register(tracker, weights)
    promote(tracker, version, validation_score=0.1, dataset_digest="d")
    before = (dict(sys.modules), list(sys.path))
    for address in ("models:/msclnet@champion", f"models:/msclnet/{version}"):
        model = load_registered(address, home=home)
        assert (model.name, model.version, model.run_id) == ("msclnet", version, tracker.run_id)
        assert (model.height, model.width) == (64, 32)
        expected = load_embedder(weights, SPEC)(IMAGES, INFRARED)
        np.testing.assert_allclose(model.embed(IMAGES, INFRARED), expected, rtol=1e-5, atol=1e-5)
    ours = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "msclnet"}
    assert ours == {name: before[0][name] for name in ours}
    assert sys.path == before[1]


def test_a_version_keeps_its_own_code(start: Start, home: Path, weights: Path, tmp_path: Path) -> None:
    """A package whose features are twice ours stands for one of another time."""
    package = tmp_path / "then" / "msclnet"
    shutil.copytree(
        Path(msclnet.__path__[0]), package, ignore=shutil.ignore_patterns("__pycache__", "synthetic")
    )
    source = (package / "serving.py").read_text()
    line = "        return embed_images("
    assert source.count(line) == 1
    (package / "serving.py").write_text(source.replace(line, "        return 2 * embed_images("))
    version = register(start(), weights, package=package)
    model = load_registered(f"models:/msclnet/{version}", home=home)
    ours = load_embedder(weights, SPEC)(IMAGES, INFRARED)
    np.testing.assert_allclose(model.embed(IMAGES, INFRARED), 2 * ours, rtol=1e-5, atol=1e-5)
    assert sys.modules["msclnet.embedding"] is msclnet.embedding


def test_from_a_server(
    start: Start, mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch, home: Path, weights: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{mlflow_server.port}")
    version = register(start(), weights)
    model = load_registered(f"models:/msclnet/{version}", home=home)
    expected = load_embedder(weights, SPEC)(IMAGES, INFRARED)
    np.testing.assert_allclose(model.embed(IMAGES, INFRARED), expected, rtol=1e-5, atol=1e-5)


def test_what_is_not_there(start: Start, home: Path, tiny_model: Callable[..., str]) -> None:
    tracker = start()
    version = tiny_model(tracker)
    for alias in ("candidate", "champion"):
        tracker.server.client.set_registered_model_alias("msclnet", alias, version)
    for address, words in {
        "models:/msclnet@champian": ["no alias 'champian'", "candidate, champion", "dvc repro evaluate"],
        "models:/msclnet/7": ["no version 7", "candidate, champion"],
        "models:/msclnut@champion": ["no model 'msclnut'", "registered: msclnet"],
    }.items():
        with pytest.raises(UserError) as caught:
            load_registered(address, home=home)
        assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    "address", ["models:/msclnet", "models:/msclnet/latest", "models:/a/b@c", "models:/"]
)
def test_an_address_of_another_form(tmp_path: Path, address: str) -> None:
    with pytest.raises(
        UserError, match=r"models:/NAME@ALIAS or models:/NAME/VERSION.*models:/msclnet@champion"
    ):
        load_registered(address, home=tmp_path)


def test_an_empty_registry_and_none_at_all(home: Path) -> None:
    with pytest.raises(UserError, match=r"no model 'msclnet' \(registered: none; `dvc repro`"):
        load_registered("models:/msclnet@champion", home=home)
    with pytest.raises(UserError, match=r"there is no registry yet .*dvc repro"):
        load_registered("models:/msclnet@champion", home=home / "elsewhere")
    assert not (home / "elsewhere").exists()


def test_a_server_that_is_down(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:1")
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI") as caught:
        load_registered("models:/msclnet@champion", home=home)
    assert "secret" not in str(caught.value)


def test_a_version_whose_files_are_gone(start: Start, home: Path, tiny_model: Callable[..., str]) -> None:
    version = tiny_model(start())
    shutil.rmtree(home / "mlruns" / "artifacts")
    with pytest.raises(UserError, match=r"msclnet version 1 cannot be loaded .*choose another version"):
        load_registered(f"models:/msclnet/{version}", home=home)


def test_a_version_that_cannot_run(start: Start, home: Path, tiny_model: Callable[..., str]) -> None:
    version = tiny_model(start())  # it can be stored only
    with pytest.raises(UserError, match=r"msclnet version 1 cannot be loaded \(ImportError"):
        load_registered(f"models:/msclnet/{version}", home=home)
    assert sys.modules["msclnet.embedding"] is msclnet.embedding


FOREIGN = """
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

class Other:
    def predict(self, context, model_input, params=None):
        return [0]

class OtherModel(Other, PythonModel):
    pass

set_model(OtherModel())
"""


def test_another_kind_of_model(start: Start, home: Path, tmp_path: Path) -> None:
    import mlflow.pyfunc

    client = start().server.client
    (tmp_path / "other.py").write_text(FOREIGN)
    mlflow.pyfunc.save_model(tmp_path / "other", python_model=str(tmp_path / "other.py"), pip_requirements=[])
    client.create_registered_model("other")
    client.create_model_version("other", (tmp_path / "other").as_uri())
    with pytest.raises(UserError, match="other version 1 is no MSCLNet embedding"):
        load_registered("models:/other/1", home=home)


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def hostile_model(folder: Path, mark: Path, *, kind: str) -> Path:
    """A model as MLflow writes them, with a pickle in it that makes a folder."""
    import mlflow.pyfunc

    (folder / "other.py").write_text(FOREIGN)
    mlflow.pyfunc.save_model(folder / kind, python_model=str(folder / "other.py"), pip_requirements=[])
    described = (folder / kind / "MLmodel").read_text()
    if kind == "pickled":
        name = "python_model.pkl"
        lines = [line for line in described.splitlines() if "model_code_path" not in line]
        described = "\n".join(lines).replace(
            "loaders.code_model", "model\n    python_model: python_model.pkl"
        )
    elif kind == "loader":
        name = "weights.bin"
        described = described.replace("mlflow.pyfunc.loaders.code_model", "mlflow.xgboost")
    else:
        name = "beside.PKL"
    (folder / kind / "MLmodel").write_text(described)
    (folder / kind / name).write_bytes(pickle.dumps(Hostile(mark), protocol=2))
    return folder / kind


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("pickled", r"holds python_model\.pkl"),
        ("loader", r"is read by mlflow\.xgboost"),
        ("beside", r"holds beside\.PKL"),
    ],
)
def test_pickles_are_refused_unread(
    start: Start, home: Path, tmp_path: Path, kind: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", raising=False)
    client = start().server.client
    mark = tmp_path / "mark"
    model = hostile_model(tmp_path, mark, kind=kind)
    client.create_registered_model("hostile")
    client.create_model_version("hostile", model.as_uri())
    with pytest.raises(
        UserError, match=rf"hostile version 1 {words}.*MLFLOW_ALLOW_PICKLE_DESERIALIZATION=true"
    ):
        load_registered("models:/hostile/1", home=home)
    assert not mark.exists()
    if kind == "pickled":  # the user's own word counts, and shows that the payload is one
        monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
        with pytest.raises(UserError, match="hostile version 1 cannot be loaded"):
            load_registered("models:/hostile/1", home=home)
        assert mark.exists()
