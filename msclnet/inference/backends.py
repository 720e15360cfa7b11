"""What computes a trained network's features: torch as it was trained, torch with folded batch norms, or OpenVINO."""

from functools import cache
from typing import Literal

import numpy as np
import torch

from msclnet.embedding import StreamEmbedder, torch_embedder
from msclnet.errors import UserError
from msclnet.inference.onnx_graph import onnx_graph
from msclnet.inference.openvino_runtime import check_openvino, openvino_function, openvino_model
from msclnet.inference.packages import optional
from msclnet.inference.stream import OneStream
from msclnet.models.network import MSCLNet

Backend = Literal["torch", "folded", "openvino"]
BACKENDS: tuple[Backend, ...] = ("torch", "folded", "openvino")


def build_embedder(
    network: MSCLNet,
    *,
    backend: Backend,
    precision: str,
    height: int,
    width: int,
    device: torch.device | None = None,
) -> StreamEmbedder:
    """A function on images of one modality: `embed(images, infrared=...)`, see StreamEmbedder.

    All back ends compute the same but for rounding. What takes time, such as compiling, happens at the first images of
    each modality; what cannot work is told at once. The number of threads is torch's at that moment.

    Args:
        network: In eval mode; it must not change afterwards, since weights may be copied.
        backend: `torch`: the network itself. `folded`: batch norms folded into the convolutions before them.
            `openvino`: the same, compiled by OpenVINO, on the CPU whatever `device` is.
        precision: `fp32` or `bf16` (of the convolutions; pooling and BNNeck stay in float32).
        height, width: Pixels of the images.
        device: Where the network is; the CPU if None.

    Raises:
        UserError: The back end is unknown, or OpenVINO or what it needs is missing here.
    """
    device = device or torch.device("cpu")
    if backend == "torch":
        return torch_embedder(network, precision=precision, device=device)
    if backend == "folded":
        return _folded(network, precision=precision, device=device)
    if backend == "openvino":
        return _openvino(network, precision=precision, height=height, width=width)
    raise UserError(f"embed.backend: expected one of {', '.join(BACKENDS)}, not {backend!r}")


def _folded(network: MSCLNet, *, precision: str, device: torch.device) -> StreamEmbedder:
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32

    @cache
    def stream(infrared: bool) -> OneStream:
        return OneStream(network, infrared=infrared, dtype=dtype).to(device)

    def embed(images: np.ndarray, *, infrared: bool) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            pooled, bnneck = stream(infrared)(torch.from_numpy(images).to(device))
        return pooled.cpu().numpy(), bnneck.cpu().numpy()

    return embed


def _openvino(network: MSCLNet, *, precision: str, height: int, width: int) -> StreamEmbedder:
    check_openvino(precision)
    for package in ("onnx", "onnxscript"):
        optional(package, what_for="the back end openvino")

    @cache
    def stream(infrared: bool):
        graph = onnx_graph(network, infrared=infrared, height=height, width=width)
        return openvino_function(openvino_model(graph), precision=precision, threads=torch.get_num_threads())

    def embed(images: np.ndarray, *, infrared: bool) -> tuple[np.ndarray, np.ndarray]:
        return stream(infrared)(images)

    return embed
