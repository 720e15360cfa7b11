"""OpenVINO on the CPU: models from ONNX graphs, their files, and functions on arrays."""

import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msclnet.errors import UserError
from msclnet.export.stream import ArrayFunction, optional

if TYPE_CHECKING:
    from onnx import ModelProto

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}


class _Stack(ctypes.Structure):
    """The kernel's `stack_t`: where a thread's signal handlers run. OpenVINO changes it."""

    _fields_ = (("ss_sp", ctypes.c_void_p), ("ss_flags", ctypes.c_int), ("ss_size", ctypes.c_size_t))


@contextmanager
def signal_stack_kept() -> Iterator[None]:
    """After the block, this thread's signal handlers run on the stack they had before it.

    OpenVINO sets a small stack apart when it loads its plugin for the CPU, in the thread that compiles a model or asks
    for the processor's abilities. Where a signal's frame does not fit, or the stack is already gone, the kernel ends
    the process with a segmentation fault: SIGTERM would not end a stage in order, and the end of a DataLoader's worker
    would not be handled.
    """
    before = _Stack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        ctypes.CDLL(None).sigaltstack(ctypes.byref(before), None)


def check_openvino(precision: str) -> None:
    """Raise a UserError if OpenVINO is missing or cannot compute in this precision here."""
    openvino = optional("openvino", purpose="the back end openvino")
    if precision != "bf16":
        return
    with signal_stack_kept():
        abilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" not in abilities:
        raise UserError(
            "embed.precision: this processor has no bf16 instructions, and OpenVINO would silently compute in fp32: "
            "set embed.precision to fp32, or embed.backend to torch"
        )


def openvino_model(graph: "ModelProto | Path") -> Any:
    """An `openvino.Model` from an ONNX graph, or from a file of OpenVINO's format."""
    core = optional("openvino", purpose="OpenVINO").Core()
    try:
        return core.read_model(graph if isinstance(graph, Path) else graph.SerializeToString())
    except RuntimeError as error:
        if not isinstance(graph, Path):
            raise
        raise UserError(f"{graph} cannot be read by OpenVINO ({_brief(error)}); write it again") from error


def save_openvino(model: Any, path: Path) -> None:
    """Write a model as an .xml file with a .bin file of the same name next to it, the weights in float32."""
    openvino = optional("openvino", purpose="OpenVINO")
    _number_nodes(model)
    try:
        openvino.save_model(model, path, compress_to_fp16=False)
    except RuntimeError as error:
        raise UserError(
            f"{path} cannot be written by OpenVINO ({_brief(error)}); is the disk full, or the folder read-only?"
        ) from error


def _number_nodes(model: Any) -> None:
    """Count the nodes without a name of their own from 0: OpenVINO counts all that the process has ever made."""
    for number, node in enumerate(model.get_ordered_ops()):
        kind = node.get_type_name()
        if re.fullmatch(rf"{kind}_\d+", node.get_friendly_name()):
            node.set_friendly_name(f"{kind}_{number}")


def _brief(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def openvino_function(model: Any, *, precision: str, threads: int) -> ArrayFunction:
    """Compile a model for the CPU, in `fp32` or `bf16`: OpenVINO's own default differs from processor to processor."""
    check_openvino(precision)
    openvino = optional("openvino", purpose="OpenVINO")
    settings = {
        "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        # Several processes would all be pinned to the same first cores.
        "ENABLE_CPU_PINNING": False,
    }
    with signal_stack_kept():
        compiled = openvino.Core().compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()

    def run(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        results = request.infer({"images": np.ascontiguousarray(images)}, share_inputs=True)
        return results["pooled"], results["bnneck"]

    return run
