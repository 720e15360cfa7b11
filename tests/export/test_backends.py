"""Every back end behind one function, against the network image by image."""

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from small_networks import HEIGHT, IMAGES, WIDTH, assert_same, expected, graph, network

from msclnet.embedding import embed_images, embed_streams
from msclnet.errors import UserError
from msclnet.export import backends
from msclnet.export.backends import BACKENDS, build_embedder
from msclnet.models.network import MSCLNet
from pipelines.stages.params import Embed

if TYPE_CHECKING:
    from onnx import ModelProto

INFRARED = np.array([0, 1, 1, 0, 1, 0, 0], dtype=bool)


@pytest.fixture(autouse=True)
def translated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slim network's graphs are those of the other tests: translating takes seconds."""

    def ready(given: MSCLNet, *, infrared: bool, height: int, width: int) -> "ModelProto":
        assert (given, height, width) == (network("slim"), HEIGHT, WIDTH)
        return graph("slim", infrared)

    monkeypatch.setattr(backends, "onnx_graph", ready)


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_compute_the_same_features(backend) -> None:
    embed = build_embedder(network("slim"), backend=backend, precision="fp32", height=HEIGHT, width=WIDTH)
    found = embed_streams(embed, IMAGES, INFRARED, batch=2)
    visible, infrared = expected("slim", False), expected("slim", True)
    wanted = tuple(
        np.where(INFRARED[:, None], theirs, ours) for ours, theirs in zip(visible, infrared, strict=True)
    )
    assert_same(found, wanted)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("backend", ["folded", "torch"])
def test_low_precision_and_mirror_images_go_through_as_well(backend) -> None:
    embed = build_embedder(network("separate"), backend=backend, precision="bf16", height=HEIGHT, width=WIDTH)
    found = embed_streams(embed, IMAGES, INFRARED, batch=3, flip=True)
    exact = embed_images(network("separate"), IMAGES, INFRARED, batch=3, flip=True)
    for ours, theirs in zip(found, exact, strict=True):
        assert not np.array_equal(ours, theirs)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.05 * float(np.abs(theirs).max()))


def test_params_know_the_same_back_ends() -> None:
    for backend in BACKENDS:
        assert Embed(batch=1, precision="fp32", backend=backend, flip=False).backend == backend
    with pytest.raises(UserError, match=r"embed\.backend: .*torch, folded, openvino, not 'tensorrt'"):
        build_embedder(
            network("slim"),
            backend="tensorrt",  # pyright: ignore[reportArgumentType]
            precision="fp32",
            height=HEIGHT,
            width=WIDTH,
        )


@pytest.mark.parametrize("package", ["openvino", "onnx", "onnxscript"])
def test_a_missing_package_is_told_at_once(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"needs the package {package}.*extra 'export'.*pip install"):
        build_embedder(network("slim"), backend="openvino", precision="fp32", height=HEIGHT, width=WIDTH)
