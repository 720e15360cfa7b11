"""Back ends that compute a trained network's features, the file formats it is exported to, and their agreement."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import torch

from msclnet.embedding import StreamEmbedder, torch_embedder
from msclnet.errors import UserError
from msclnet.export.onnx import onnx_function, onnx_graph
from msclnet.export.openvino import check_openvino, openvino_function, openvino_model, save_openvino
from msclnet.export.stream import ArrayFunction, OneStream, optional
from msclnet.models.network import MSCLNet

if TYPE_CHECKING:
    from onnx import ModelProto

# Whether two ways of computing features agree.

BATCHES = (1, 2, 16)  # in turn: a graph that was made for one batch size fails


@dataclass(frozen=True)
class Agreement:
    """How close a back end comes to a reference, over some images."""

    cosine: float  # the lowest between an image's two features, pooled or BNNeck; NaN where a feature is
    difference: float  # the largest of a feature's value, as a share of the reference's largest value
    images: int


def agreement(reference: ArrayFunction, other: ArrayFunction, images: np.ndarray) -> Agreement:
    """Compare two functions on uint8 RGB images (N, H, W, 3), a few at a time and not always as many."""
    return agreement_of(by_batches(reference, images), by_batches(other, images))


def by_batches(embed: ArrayFunction, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pooled and BNNeck features (N, D) of images, a few at a time and not always as many."""
    pooled, bnneck = zip(*(embed(part) for part in _batches(images)), strict=True)
    return np.concatenate(pooled), np.concatenate(bnneck)


def agreement_of(expected: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> Agreement:
    """Compare pooled and BNNeck features (N, D) of the same images."""
    cosines, differences, largest = [], [], []
    for one, other in zip(expected, found, strict=True):
        a, b = one.astype(np.float64), other.astype(np.float64)
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosines.append(float(((a * b).sum(axis=1) / norms).min()))
        differences.append(float(np.abs(a - b).max()))
        largest.append(float(np.abs(a).max()))
    images = len(expected[0])
    return Agreement(float(np.min(cosines)), float(np.max(differences) / np.max(largest)), images)


def _batches(images: np.ndarray) -> Iterator[np.ndarray]:
    start = turn = 0
    while start < len(images):
        size = BATCHES[min(turn, len(BATCHES) - 1)]
        yield images[start : start + size]
        start, turn = start + size, turn + 1


# The file formats that a trained network can be exported to.


class Loader(Protocol):
    """Reads a file back as a function on arrays, computed in fp32 on the CPU."""

    def __call__(self, path: Path, *, threads: int) -> ArrayFunction: ...


@dataclass(frozen=True)
class Format:
    """One file format that a trained network can be exported to."""

    ending: str  # of the file that is opened
    package: str  # what must be installed in addition to onnx and onnxscript
    # ONNX model and path -> the file, and others next to it where the format has several.
    write: Callable[["ModelProto", Path], None]
    load: Loader


def _write_onnx(graph: "ModelProto", path: Path) -> None:
    optional("onnx", purpose="writing ONNX").save(graph, path)


def _write_openvino(graph: "ModelProto", path: Path) -> None:
    save_openvino(openvino_model(graph), path)


def _load_openvino(path: Path, *, threads: int) -> ArrayFunction:
    return openvino_function(openvino_model(path), precision="fp32", threads=threads)


ONNX = Format(".onnx", "onnxruntime", _write_onnx, onnx_function)
OPENVINO = Format(".xml", "openvino", _write_openvino, _load_openvino)


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
    each modality; what cannot work is reported at once. The number of threads is torch's at that moment.

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
        optional(package, purpose="the back end openvino")

    @cache
    def stream(infrared: bool):
        graph = onnx_graph(network, infrared=infrared, height=height, width=width)
        return openvino_function(openvino_model(graph), precision=precision, threads=torch.get_num_threads())

    def embed(images: np.ndarray, *, infrared: bool) -> tuple[np.ndarray, np.ndarray]:
        return stream(infrared)(images)

    return embed
