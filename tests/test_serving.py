"""A trained network from its files alone."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from msclnet.embedding import embed_images, load_embedder, load_network
from msclnet.errors import UserError
from msclnet.models.build import build_network
from msclnet.models.network import MSCLNet
from msclnet.training.loop import weights_of
from pipelines.stages.presets import preset_params

PARAMS = preset_params("smoke", Path(__file__).resolve().parents[1])
IMAGES = np.random.default_rng(0).integers(0, 256, size=(7, 64, 32, 3), dtype=np.uint8)
INFRARED = np.array([0, 1, 1, 0, 1, 0, 0], dtype=bool)


def spec_of(**model: Any) -> dict[str, Any]:
    return {
        "identities": 4,
        "model": PARAMS.section("model") | model,
        "synergy": copy.deepcopy(PARAMS.section("synergy")),
    }


def trained(spec: dict[str, Any]) -> MSCLNet:
    torch.manual_seed(0)
    network = build_network(spec)
    for _ in range(2):  # batch norm's statistics are part of the weights
        network(torch.from_numpy(IMAGES[:3]), torch.from_numpy(IMAGES[3:6]))
    return network


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Such small networks only lose by several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def network() -> MSCLNet:
    return trained(spec_of())


@pytest.fixture
def weights(network: MSCLNet, tmp_path: Path) -> Path:
    save_file(weights_of(network), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_loaded_weights_give_the_same_vectors(network: MSCLNet, weights: Path) -> None:
    _, expected = embed_images(network, IMAGES, INFRARED, batch=64)
    embed = load_embedder(weights, spec_of())
    vectors = embed(IMAGES, INFRARED)
    assert vectors.dtype == np.float32
    assert vectors.shape == (7, 64)
    np.testing.assert_allclose(vectors, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        load_embedder(weights, spec_of(), batch=2)(IMAGES, INFRARED), expected, rtol=1e-5, atol=1e-5
    )
    np.testing.assert_array_equal(embed(IMAGES, INFRARED.astype(int)), vectors)


@pytest.mark.parametrize("trunk", ["shared", "separate"])
@pytest.mark.parametrize("target", ["synergy", "label"])
def test_every_weight_comes_back(tmp_path: Path, trunk: str, target: str) -> None:
    spec = spec_of(trunk=trunk)
    spec["synergy"]["target"] = target
    network = trained(spec)
    save_file(weights_of(network), tmp_path / "model.safetensors")
    loaded = load_network(tmp_path / "model.safetensors", spec)
    assert not loaded.training
    expected, found = network.state_dict(), loaded.state_dict()
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_pretrained_weights_are_not_asked_for(network: MSCLNet, weights: Path) -> None:
    assert load_network(weights, spec_of(weights="imagenet")).neck.norm.num_features == 64


@pytest.mark.parametrize(
    "change", [{"width": 16}, {"last_stride": 2, "width": 16}, {"backbone": "resnet18"}, {"identities": 5}]
)
def test_weights_of_another_network(weights: Path, change: dict[str, Any]) -> None:
    spec = spec_of(**{name: value for name, value in change.items() if name != "identities"})
    spec["identities"] = change.get("identities", 4)
    with pytest.raises(UserError, match=r"model\.safetensors holds the weights of another configuration"):
        load_embedder(weights, spec)


def test_two_trunks_do_not_pass_for_a_shared_one(tmp_path: Path) -> None:
    """The names agree, so that one trunk's weights would silently overwrite the other's."""
    save_file(weights_of(trained(spec_of(trunk="separate"))), tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"model\.safetensors holds the weights of another configuration"):
        load_embedder(tmp_path / "model.safetensors", spec_of(trunk="shared"))


def test_missing_weights(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.safetensors: no such file.*dvc repro train"):
        load_embedder(tmp_path / "model.safetensors", spec_of())


@pytest.mark.parametrize("share", [0.0, 0.00005, 0.01, 0.5, 0.999])
def test_torn_weights(weights: Path, share: float) -> None:
    data = weights.read_bytes()
    weights.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=r"model\.safetensors is damaged .*dvc repro train --force"):
        load_embedder(weights, spec_of())


def test_weights_that_are_something_else(weights: Path) -> None:
    weights.write_bytes(b"no tensors at all, just a sentence of some length")
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        load_embedder(weights, spec_of())
