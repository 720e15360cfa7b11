"""The file formats that a trained network can be exported to."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msclnet.inference.onnx_runtime import onnx_function
from msclnet.inference.openvino_runtime import openvino_function, openvino_model, save_openvino
from msclnet.inference.packages import optional
from msclnet.inference.stream import ArrayFunction

if TYPE_CHECKING:
    from onnx import ModelProto


class Loader(Protocol):
    """Reads a file back as a function on arrays, computed in fp32 on the CPU."""

    def __call__(self, path: Path, *, threads: int) -> ArrayFunction: ...


@dataclass(frozen=True)
class Format:
    """One file format.

    Attributes:
        ending: Of the file that is opened.
        package: What must be installed to write and to check it, besides onnx and onnxscript.
        write: ONNX model and path -> the file, and others beside it where the format has several.
        load: See Loader.
    """

    ending: str
    package: str
    write: Callable[["ModelProto", Path], None]
    load: Loader


def _write_onnx(graph: "ModelProto", path: Path) -> None:
    optional("onnx", what_for="writing ONNX").save(graph, path)


def _write_openvino(graph: "ModelProto", path: Path) -> None:
    save_openvino(openvino_model(graph), path)


def _load_openvino(path: Path, *, threads: int) -> ArrayFunction:
    return openvino_function(openvino_model(path), precision="fp32", threads=threads)


ONNX = Format(".onnx", "onnxruntime", _write_onnx, onnx_function)
OPENVINO = Format(".xml", "openvino", _write_openvino, _load_openvino)
