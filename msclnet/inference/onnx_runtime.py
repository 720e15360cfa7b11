"""ONNX Runtime on the CPU: from a file to a function on arrays."""

from pathlib import Path

import numpy as np

from msclnet.inference.packages import optional
from msclnet.inference.stream import ArrayFunction


def onnx_function(path: Path, *, threads: int) -> ArrayFunction:
    """Load an ONNX file of `msclnet.inference.onnx_graph`.

    Args:
        path: The file.
        threads: Of the CPU.

    Raises:
        UserError: onnxruntime is not installed.
    """
    runtime = optional("onnxruntime", what_for="running an ONNX graph")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pooled, bnneck = session.run(["pooled", "bnneck"], {"images": np.ascontiguousarray(images)})
        return pooled, bnneck

    return run
