"""The real network, served: what `msclnet.embedding` embeds is what MLflow's copy of it embeds."""

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from safetensors.torch import save_file

import msclnet
from msclnet.embedding import load_embedder
from msclnet.models.build import build_network
from msclnet.tracking.model import REQUIREMENTS, log_model
from msclnet.tracking.registry import promote
from msclnet.tracking.run import Tracker

PACKAGE = Path(msclnet.__path__[0])
PARAMS = PACKAGE.parent / "params.yaml"

READER = """
import sys
import mlflow
import numpy as np

model = mlflow.pyfunc.load_model("models:/msclnet@champion")
given = np.load(sys.argv[1])
images, infrared = given["images"], given["infrared"]
vectors = {"example": model.predict(model.input_example)}
for size in (1, 2, 5):
    vectors[f"first_{size}"] = model.predict({"images": images[:size], "infrared": infrared[:size]})
for name, chosen in (("visible", ~infrared), ("infrared", infrared)):
    vectors[name] = model.predict({"images": images[chosen], "infrared": infrared[chosen]})
np.savez(sys.argv[2], **vectors)
for wrong in ({"images": images[:, :100], "infrared": infrared}, {"images": images, "infrared": infrared[:2]}):
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
    start: Callable[..., Tracker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    params = YAML(typ="safe").load(PARAMS)
    spec = {"identities": 4, "model": params["model"], "synergy": params["synergy"]}
    torch.manual_seed(0)
    weights = tmp_path / "model.safetensors"
    state = build_network(spec, pretrained=False).state_dict()
    save_file({name: tensor.clone() for name, tensor in state.items()}, weights)
    embed = load_embedder(weights, spec)
    images = np.random.default_rng(0).integers(0, 256, (5, 288, 144, 3), dtype=np.uint8)
    infrared = np.array([True, False, False, True, True])
    expected = embed(images, infrared)
    assert not np.allclose(expected, embed(images, ~infrared), atol=1e-3)  # the modality matters

    tracker = start()
    version = log_model(
        tracker,
        weights=weights,
        spec=spec,
        example={"images": images[:2], "infrared": infrared[:2]},
        reference_vectors=expected[:2],
    )
    assert version is not None
    promote(tracker, version, validation_score=0.1, dataset_digest="d")
    np.savez(tmp_path / "given.npz", images=images, infrared=infrared)
    reader = subprocess.run(
        [sys.executable, "-c", READER, str(tmp_path / "given.npz"), str(tmp_path / "vectors.npz")],
        capture_output=True,
        text=True,
        env=os.environ
        | {"MLFLOW_TRACKING_URI": tracker.server.uri, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
        cwd=tmp_path,
    )
    assert (reader.returncode, reader.stderr) == (0, "")
    vectors = np.load(tmp_path / "vectors.npz")
    rows = {
        "example": slice(2),
        "first_1": slice(1),
        "first_2": slice(2),
        "first_5": slice(5),
        "visible": ~infrared,
        "infrared": infrared,
    }
    for name, chosen in rows.items():
        assert vectors[name].dtype == np.float32
        np.testing.assert_allclose(vectors[name], expected[chosen], rtol=1e-4, atol=1e-4, err_msg=name)


def imported_by(module: str, seen: set[str]) -> Iterator[str]:
    """Top-level packages imported anywhere in a module of ours and in those of ours that it imports."""
    path = PACKAGE.parent / Path(*module.split(".")).with_suffix(".py")
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
