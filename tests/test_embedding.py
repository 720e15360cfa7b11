"""Embedding many images, against calling the network for one image at a time; and a network from its files alone."""

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
COUNT, HEIGHT, WIDTH = 11, 64, 32
IMAGES = np.random.default_rng(0).integers(0, 256, size=(COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
MIXES = {
    "mixed": np.random.default_rng(1).random(COUNT) < 0.4,
    "visible": np.zeros(COUNT, dtype=bool),
    "infrared": np.ones(COUNT, dtype=bool),
    "one infrared": np.arange(COUNT) == 5,
    "one visible": np.arange(COUNT) != 0,
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Such small networks only lose by several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def spec_of(*, identities: int = 4, target: str = "synergy", **model: Any) -> dict[str, Any]:
    synergy = PARAMS.section("synergy") | {"target": target}
    return {"identities": identities, "model": PARAMS.section("model") | model, "synergy": synergy}


def trained(spec: dict[str, Any]) -> MSCLNet:
    """Batch norm has seen images of both modalities, so that training and testing give different features."""
    torch.manual_seed(0)
    made = build_network(spec)
    for _ in range(3):
        made(torch.from_numpy(IMAGES[:5]), torch.from_numpy(IMAGES[5:10]))
    return made


@pytest.fixture(scope="module")
def network() -> MSCLNet:
    return trained(spec_of())


@pytest.fixture
def weights(network: MSCLNet, tmp_path: Path) -> Path:
    save_file(weights_of(network), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def one_by_one(network: MSCLNet, infrared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    network.eval()
    with torch.no_grad():
        features = [
            network.embed(torch.from_numpy(IMAGES[i : i + 1]), infrared=bool(infrared[i]))
            for i in range(COUNT)
        ]
    pooled, bnneck = (torch.cat(part).numpy() for part in zip(*features, strict=True))
    return pooled, bnneck


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_rows_are_in_the_order_of_the_images(network: MSCLNet, mix: str, batch: int) -> None:
    expected = one_by_one(network, MIXES[mix])
    found = embed_images(network, IMAGES, MIXES[mix], batch=batch)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == np.float32
        assert ours.shape == (COUNT, 64)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_modalities_take_their_own_streams(network: MSCLNet) -> None:
    visible, _ = embed_images(network, IMAGES, MIXES["visible"], batch=4)
    infrared, _ = embed_images(network, IMAGES, MIXES["infrared"], batch=4)
    assert (np.abs(visible - infrared).max(axis=1) > 1e-3).all()


def test_features_of_an_image_do_not_depend_on_its_neighbours(network: MSCLNet) -> None:
    whole, _ = embed_images(network, IMAGES, MIXES["mixed"], batch=64)
    order = np.random.default_rng(2).permutation(COUNT)[:7]
    part, _ = embed_images(network, IMAGES[order], MIXES["mixed"][order], batch=2)
    np.testing.assert_allclose(part, whole[order], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_flip_is_the_mean_over_both_mirror_images(network: MSCLNet, batch: int) -> None:
    plain = embed_images(network, IMAGES, MIXES["mixed"], batch=64)
    mirrored = embed_images(network, IMAGES[:, :, ::-1].copy(), MIXES["mixed"], batch=64)
    found = embed_images(network, IMAGES, MIXES["mixed"], batch=batch, flip=True)
    for ours, one, other in zip(found, plain, mirrored, strict=True):
        assert ours.dtype == np.float32
        assert np.abs(one - other).max() > 1e-3
        np.testing.assert_allclose(ours, (one.astype(float) + other) / 2, rtol=1e-5, atol=1e-5)


def test_flip_does_not_tell_an_image_from_its_mirror_image(network: MSCLNet) -> None:
    one = embed_images(network, IMAGES, MIXES["mixed"], batch=4, flip=True)
    other = embed_images(network, IMAGES[:, :, ::-1].copy(), MIXES["mixed"], batch=4, flip=True)
    for ours, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_memory_maps_are_images_too(network: MSCLNet, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    ours = embed_images(network, mapped, MIXES["mixed"], batch=4)
    theirs = embed_images(network, IMAGES, MIXES["mixed"], batch=4)
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(network: MSCLNet, training: bool) -> None:
    network.train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    embed_images(network, IMAGES, MIXES["mixed"], batch=4)
    assert all(module.training == training for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_mode_is_restored_after_a_failure(network: MSCLNet) -> None:
    network.train()
    with pytest.raises(ValueError, match="unpack"):
        embed_images(network, np.zeros((COUNT, 1), dtype=np.uint8), MIXES["mixed"], batch=4)
    assert network.training


def test_low_precision_is_near(network: MSCLNet) -> None:
    exact, _ = embed_images(network, IMAGES, MIXES["mixed"], batch=4)
    rough, _ = embed_images(network, IMAGES, MIXES["mixed"], batch=4, precision="bf16")
    assert rough.dtype == np.float32
    assert not np.array_equal(exact, rough)
    np.testing.assert_allclose(rough, exact, rtol=0.1, atol=0.1 * float(np.abs(exact).max()))


def test_images_are_read_once_and_batch_by_batch(network: MSCLNet) -> None:
    asked: list[list[int]] = []

    class Watched:
        def __len__(self) -> int:
            return COUNT

        def __getitem__(self, rows: Any) -> np.ndarray:
            asked.append(list(rows))
            return IMAGES[rows]

    embed_images(network, Watched(), MIXES["mixed"], batch=3)  # pyright: ignore[reportArgumentType]
    assert sorted(row for rows in asked for row in rows) == list(range(COUNT))
    assert max(len(rows) for rows in asked) == 3


def test_loaded_weights_give_the_same_vectors(network: MSCLNet, weights: Path) -> None:
    _, expected = embed_images(network, IMAGES, MIXES["mixed"], batch=64)
    for batch in (64, 2):
        vectors = load_embedder(weights, spec_of(), batch=batch)(IMAGES, MIXES["mixed"].astype(int))
        assert (vectors.dtype, vectors.shape) == (np.float32, (COUNT, 64))
        np.testing.assert_allclose(vectors, expected, rtol=1e-5, atol=1e-5)
    # Pretrained weights are not asked for.
    assert load_network(weights, spec_of(weights="imagenet")).neck.norm.num_features == 64


@pytest.mark.parametrize(("trunk", "target"), [("shared", "synergy"), ("separate", "label")])
def test_every_weight_comes_back(tmp_path: Path, trunk: str, target: str) -> None:
    spec = spec_of(trunk=trunk, target=target)
    network = trained(spec)
    save_file(weights_of(network), tmp_path / "model.safetensors")
    loaded = load_network(tmp_path / "model.safetensors", spec)
    assert not loaded.training
    expected, found = network.state_dict(), loaded.state_dict()
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("change", [{"width": 16}, {"identities": 5}])
def test_weights_of_another_network(weights: Path, change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"model\.safetensors holds the weights of another configuration"):
        load_embedder(weights, spec_of(**change))


def test_two_trunks_do_not_pass_for_a_shared_one(tmp_path: Path) -> None:
    """The names agree, so that one trunk's weights would silently overwrite the other's."""
    save_file(weights_of(trained(spec_of(trunk="separate"))), tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"model\.safetensors holds the weights of another configuration"):
        load_embedder(tmp_path / "model.safetensors", spec_of(trunk="shared"))


def test_missing_weights(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.safetensors: no such file.*dvc repro train"):
        load_embedder(tmp_path / "model.safetensors", spec_of())


@pytest.mark.parametrize("share", [0.0, 0.00005, 0.5, 0.999, None])
def test_torn_weights_and_other_files(weights: Path, share: float | None) -> None:
    data = weights.read_bytes()
    text = b"no tensors at all, just a sentence of some length"
    weights.write_bytes(text if share is None else data[: int(share * len(data))])
    with pytest.raises(UserError, match=r"model\.safetensors is damaged .*dvc repro train --force"):
        load_embedder(weights, spec_of())
