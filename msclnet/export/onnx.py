"""ONNX: one stream of a trained network as a graph, and ONNX Runtime, which runs it on the CPU."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msclnet.export.stream import ArrayFunction, OneStream, optional
from msclnet.models.backbone import Pixels
from msclnet.models.network import MSCLNet

if TYPE_CHECKING:
    from onnx import ModelProto

INPUT = "images"
OUTPUTS = ("pooled", "bnneck")
OPSET = 18  # of the exporter's own translations; every runtime of the last years reads it


class FloatPixels(nn.Module):
    """The same as msclnet.models.backbone.Pixels, in operations that every runtime has.

    The reduction there sums 16-bit integers, for which ONNX Runtime has no addition. Sums of up to 121 bytes are whole
    numbers in float32 as well, so that nothing is lost.
    """

    def __init__(self, pixels: Pixels) -> None:
        super().__init__()
        self.reduction = pixels.reduction
        self.scale: Tensor
        self.shift: Tensor
        for name, values in (("scale", pixels.scale * pixels.reduction**2), ("shift", pixels.shift)):
            self.register_buffer(name, values.reshape(1, 3, 1, 1).clone())

    def forward(self, images: Tensor) -> Tensor:
        """uint8 RGB (N, H, W, 3) -> float32 (N, 3, H / reduction, W / reduction)."""
        values = images.permute(0, 3, 1, 2).float()
        if self.reduction > 1:
            values = F.avg_pool2d(values, self.reduction)
        return values * self.scale + self.shift


def onnx_graph(network: MSCLNet, *, infrared: bool, height: int, width: int) -> "ModelProto":
    """The stream as an ONNX model: `images` uint8 (batch, height, width, 3) -> `pooled`, `bnneck` float32 (batch, D).

    Height and width are fixed in the graph, the number of images is free. The network stays as it is.
    """
    for package in ("onnx", "onnxscript"):
        optional(package, purpose="writing ONNX")
    stream = OneStream(network, infrared=infrared).cpu()
    assert isinstance(network.pixels, Pixels)
    stream.pixels = FloatPixels(network.pixels).cpu()
    example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    program = torch.onnx.export(
        stream,
        (example,),
        input_names=[INPUT],
        output_names=list(OUTPUTS),
        dynamic_shapes={INPUT: {0: torch.export.Dim("batch", min=1)}},
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    _forget_origins(model)
    model.doc_string = (
        f"{'Infrared' if infrared else 'Visible'} images, uint8 RGB as stored -> features, unnormalised"
    )
    return model


def _forget_origins(model: "ModelProto") -> None:
    """Remove the exporter's notes on each node: stack traces with this machine's paths, long as a small model."""
    graph = model.graph
    for entries in (graph.node, graph.initializer, graph.value_info, graph.input, graph.output, [graph]):
        for entry in entries:
            del entry.metadata_props[:]


def onnx_function(path: Path, *, threads: int) -> ArrayFunction:
    runtime = optional("onnxruntime", purpose="running an ONNX graph")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pooled, bnneck = session.run(list(OUTPUTS), {INPUT: np.ascontiguousarray(images)})
        return pooled, bnneck

    return run
