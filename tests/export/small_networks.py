"""Networks of every kind of part, and their streams as ONNX graphs, made once: translating takes a second each."""

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from model_specs import network_of, random_images, spec
from torch import nn

from msclnet.export.onnx import onnx_graph
from msclnet.models.network import MSCLNet
from msclnet.models.non_local import NonLocalBlock

if TYPE_CHECKING:
    from onnx import ModelProto

HEIGHT, WIDTH = 98, 50  # no multiple of the slim network's reduction
IMAGES = random_images(7, HEIGHT, WIDTH).numpy()
SPECS = {"slim": spec(width=8), "separate": spec(trunk="separate", non_local_inner=2, reduction=1)}
STREAMS = [(name, infrared) for name in SPECS for infrared in (False, True)]


@cache
def network(name: str) -> MSCLNet:
    """In eval mode, with batch norms that have seen something and non-local blocks that do something."""
    made = network_of(SPECS[name])
    for module in made.modules():
        if isinstance(module, NonLocalBlock):
            nn.init.normal_(module.norm.weight)
            nn.init.normal_(module.norm.bias)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, std=0.1)
    return made.eval()


@cache
def graph(name: str, infrared: bool) -> "ModelProto":
    """One stream of a network."""
    return onnx_graph(network(name), infrared=infrared, height=HEIGHT, width=WIDTH)


def expected(name: str, infrared: bool, images: np.ndarray = IMAGES) -> tuple[np.ndarray, np.ndarray]:
    """Pooled and BNNeck features by the network as it was trained."""
    with torch.inference_mode():
        pooled, bnneck = network(name).embed(torch.from_numpy(images), infrared=infrared)
    return pooled.numpy(), bnneck.numpy()


def assert_same(found: tuple[np.ndarray, np.ndarray], wanted: tuple[np.ndarray, np.ndarray]) -> None:
    """The same but for the rounding of float32."""
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * float(np.abs(theirs).max()))
