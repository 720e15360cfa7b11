"""The registered network: its files, its aliases, and that it computes the same wherever it is loaded."""

import ast
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from mlflow_stores import RegisteredNetwork

import msclnet
from msclnet.errors import UserError
from msclnet.tracking.registered_model import downloaded_model
from msclnet.tracking.registry import REQUIREMENTS, add_file, find_version, set_candidate
from msclnet.tracking.run import Tracker

Start = Callable[..., Tracker]
LogModel = Callable[..., str | None]
PACKAGE = Path(msclnet.__path__[0])


def test_the_logged_files_are_code_weights_and_text_but_no_pickle(
    home: Path, registered_network: RegisteredNetwork
) -> None:
    tracker = registered_network.tracker
    client = tracker.server.client
    assert registered_network.version == find_version(tracker, name="network") == "1"
    outputs = client.get_run(tracker.run_id).outputs
    assert outputs is not None
    (output,) = outputs.model_outputs
    logged = client.get_logged_model(output.model_id)
    assert (logged.source_run_id, logged.status.value) == (tracker.run_id, "READY")
    model = home / "mlruns" / "artifacts" / "models" / output.model_id / "artifacts"
    names = {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
    assert {"artifacts/model.safetensors", "artifacts/spec.json", "code/msclnet/embedding.py"} <= names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".pth", ".pyc"))]
    assert json.loads((model / "artifacts" / "spec.json").read_text()) == registered_network.spec
    reference = np.load(model / "artifacts" / "reference.npy", allow_pickle=False)
    np.testing.assert_array_equal(reference, registered_network.vectors[:2])
    pinned = (model / "requirements.txt").read_text().split()
    assert tuple(line.partition("==")[0] for line in pinned) == REQUIREMENTS
    assert all("==" in line and "+" not in line for line in pinned)
    from mlflow.models import Model

    signature = Model.load(model).signature
    assert signature is not None
    shapes = {spec.name: (spec.type, spec.shape) for spec in signature.inputs}
    assert shapes == {"images": (np.dtype(np.uint8), (-1, 64, 32, 3)), "infrared": (np.dtype(bool), (-1,))}
    assert signature.outputs.inputs[0].shape == (-1, registered_network.vectors.shape[1])


READER = """
import sys
import mlflow
import numpy as np

model = mlflow.pyfunc.load_model("models:/network@champion")
given = np.load(sys.argv[1])
images, infrared = given["images"], given["infrared"]
vectors = {"example": model.predict(model.input_example)}
for size in (0, 1, 5):
    vectors[f"first_{size}"] = model.predict({"images": images[:size], "infrared": infrared[:size]})
for name, chosen in (("visible", ~infrared), ("infrared", infrared)):
    vectors[name] = model.predict({"images": images[chosen], "infrared": infrared[chosen]})
np.savez(sys.argv[2], **vectors)
for wrong in ({"images": images[:, :10], "infrared": infrared}, {"images": images, "infrared": infrared[:2]}):
    try:
        model.predict(wrong)
    except (mlflow.MlflowException, ValueError) as error:
        assert "shape" in str(error), error
    else:
        raise AssertionError("wrong shapes were accepted")
import msclnet
assert "mlruns" in msclnet.__path__[0]  # the model brings its own code
"""


def test_a_fresh_process_embeds_as_this_one(
    home: Path, tmp_path: Path, registered_network: RegisteredNetwork
) -> None:
    images, infrared = registered_network.images, registered_network.infrared
    np.savez(tmp_path / "given.npz", images=images, infrared=infrared)
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": registered_network.tracker.server.uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("PYTHONPATH", None)
    reader = subprocess.run(
        [sys.executable, "-c", READER, str(tmp_path / "given.npz"), str(tmp_path / "vectors.npz")],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert (reader.returncode, reader.stderr) == (0, "")
    vectors = np.load(tmp_path / "vectors.npz")
    rows = {"example": slice(2), "visible": ~infrared, "infrared": infrared}
    rows |= {f"first_{size}": slice(size) for size in (0, 1, 5)}
    for name, chosen in rows.items():
        expected = registered_network.vectors[chosen]
        assert (vectors[name].dtype, vectors[name].shape) == (np.float32, expected.shape), name
        np.testing.assert_allclose(vectors[name], expected, rtol=1e-4, atol=1e-4, err_msg=name)


def test_the_downloaded_champion_is_the_trained_network(
    home: Path, registered_network: RegisteredNetwork
) -> None:
    version = registered_network.version
    for address in ("models:/network@champion", f"models:/network/{version}"):
        with downloaded_model(address, home=home) as model:
            assert (model.name, model.version) == ("network", version)
            assert model.run_id == registered_network.tracker.run_id
            assert (model.height, model.width, model.spec) == (64, 32, registered_network.spec)
            assert model.weights.read_bytes() == registered_network.weights.read_bytes()
        assert not model.weights.exists()


def test_a_file_that_is_added_later_comes_with_the_weights(
    home: Path, tmp_path: Path, start: Start, experiment: str, log_small_model: LogModel
) -> None:
    tracker = start()
    version = str(log_small_model(tracker, name=experiment))
    for text in ("first", "second"):
        (tmp_path / "calibration.json").write_text(text)
        add_file(tracker, version, tmp_path / "calibration.json", name=experiment)
        with downloaded_model(f"models:/{experiment}/{version}", home=home) as model:
            assert model.weights.with_name("calibration.json").read_text() == text


def test_what_is_not_registered(start: Start, home: Path, experiment: str, log_small_model: LogModel) -> None:
    tracker = start()
    version = log_small_model(tracker, name=experiment)
    for alias in ("candidate", "champion"):
        tracker.server.client.set_registered_model_alias(experiment, alias, str(version))
    for address, words in {
        f"models:/{experiment}@champian": [
            "no alias 'champian'",
            "candidate, champion",
            "dvc repro evaluate",
        ],
        f"models:/{experiment}/7": ["no version 7", "candidate, champion"],
        "models:/msclnut@champion": ["no model 'msclnut'", f"registered: .*{experiment}"],
        "models:/msclnet": ["models:/NAME@ALIAS or models:/NAME/VERSION"],
        "models:/msclnet/latest": ["models:/NAME@ALIAS or models:/NAME/VERSION"],
        "models:/a/b@c": ["models:/NAME@ALIAS or models:/NAME/VERSION"],
    }.items():
        for word in words:
            with pytest.raises(UserError, match=word), downloaded_model(address, home=home):
                pass


def test_no_registry_at_all(home: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with (
        pytest.raises(UserError, match=r"there is no registry yet .*dvc repro"),
        downloaded_model("models:/msclnet@champion", home=nowhere),
    ):
        pass
    assert not nowhere.exists()


def test_a_version_whose_files_are_gone(
    start: Start, home: Path, experiment: str, log_small_model: LogModel
) -> None:
    tracker = start()
    version = log_small_model(tracker, name=experiment)
    client = tracker.server.client
    folder = Path(home / "mlruns" / "artifacts" / "models")
    run = client.get_run(tracker.run_id)
    assert run.outputs is not None
    (folder / run.outputs.model_outputs[0].model_id).rename(home / experiment)
    with (
        pytest.raises(UserError, match=f"{experiment} version 1: .*choose another version"),
        downloaded_model(f"models:/{experiment}/{version}", home=home),
    ):
        pass


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


def test_another_kind_of_model_is_refused_and_nothing_of_it_is_run(
    start: Start, home: Path, tmp_path: Path, experiment: str
) -> None:
    client = start().server.client
    folder, mark = tmp_path / "other", tmp_path / "mark"
    folder.mkdir()
    (folder / "python_model.pkl").write_bytes(pickle.dumps(Hostile(mark)))
    (folder / "MLmodel").write_text(
        "flavors:\n  python_function:\n    loader_module: mlflow.pyfunc.model\n"
        "    python_model: python_model.pkl\n"
    )
    client.create_registered_model(experiment)
    client.create_model_version(experiment, folder.as_uri())
    with (
        pytest.raises(UserError, match=f"{experiment} version 1 is no model of this project"),
        downloaded_model(f"models:/{experiment}/1", home=home),
    ):
        pass
    assert not mark.exists()


@pytest.fixture
def versions(start: Start, experiment: str) -> tuple[Tracker, list[str]]:
    """Four bare versions of the registered model."""
    tracker = start()
    client = tracker.server.client
    client.create_registered_model(experiment)
    made = [
        client.create_model_version(experiment, f"file:///nowhere/{i}", run_id=tracker.run_id) for i in "abcd"
    ]
    return tracker, [str(version.version) for version in made]


def test_the_candidate_is_the_version_evaluated_last(
    versions: tuple[Tracker, list[str]], experiment: str
) -> None:
    tracker, (one, two, *_) = versions
    set_candidate(tracker, one, {"rank1": 0.1}, name=experiment)
    set_candidate(tracker, two, {"rank1": 1 / 3, "test_mAP": 0.5}, name=experiment)
    found = tracker.server.client.get_model_version_by_alias(experiment, "candidate")
    assert str(found.version) == two
    assert float(found.tags["rank1"]) == 1 / 3
    assert float(found.tags["test_mAP"]) == 0.5
    assert find_version(tracker, name=experiment) == "4"


def imported_by(module: str, seen: set[str]) -> Iterator[str]:
    """Top-level packages imported anywhere in a module of ours and in those of ours that it imports."""
    path = PACKAGE.parent / Path(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if module in seen or not path.exists():
        return
    seen.add(module)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.partition(".")[0] == "msclnet":
                yield from imported_by(name, seen)
            else:
                yield name.partition(".")[0]


def test_the_requirements_are_all_that_serving_imports() -> None:
    ours: set[str] = set()
    foreign = set(imported_by("msclnet.embedding", ours)) | set(
        imported_by("msclnet.tracking.served_model", ours)
    )
    assert {"msclnet.embedding", "msclnet.models.build"} <= ours
    assert foreign - set(sys.stdlib_module_names) == set(REQUIREMENTS)
