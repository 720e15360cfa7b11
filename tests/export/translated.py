"""A small network and its streams as ONNX graphs, for tests of what is done with them: translating takes seconds."""

import functools
from pathlib import Path
from typing import Any

import torch
from model_specs import network_of, spec
from safetensors.torch import save_file

from msclnet.export.onnx import onnx_graph
from msclnet.models.network import MSCLNet

HEIGHT, WIDTH = 64, 32
SPEC = spec()


def save_weights(path: Path) -> None:
    state = network_of(SPEC).state_dict()
    save_file({name: tensor.clone().contiguous() for name, tensor in state.items()}, path)


def graph_of(network: MSCLNet, *, infrared: bool, height: int, width: int) -> Any:
    """In the place of `onnx_graph`, for this very network alone."""
    ours = network_of(SPEC).state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in network.state_dict().items())
    return _graph(infrared, height, width)


@functools.cache
def _graph(infrared: bool, height: int, width: int) -> Any:
    return onnx_graph(network_of(SPEC).eval(), infrared=infrared, height=height, width=width)
