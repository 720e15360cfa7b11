"""A model without a network, for what only stores and registers models."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from msclnet.tracking.model import log_model
from msclnet.tracking.run import Tracker

HEIGHT, WIDTH, DIMENSION = 288, 144, 5


def log_stand_in(tracker: Tracker, folder: Path, **changes) -> str | None:
    package = folder / "msclnet"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    (package / "serving.py").write_text("# stands in for the real one\n")
    save_file({"matrix": np.zeros((3, DIMENSION), dtype=np.float32)}, folder / "weights.safetensors")
    images = np.zeros((2, HEIGHT, WIDTH, 3), dtype=np.uint8)
    arguments = {
        "weights": folder / "weights.safetensors",
        "spec": {"tensor": "matrix"},
        "example": {"images": images, "infrared": np.array([False, True])},
        "reference_vectors": np.zeros((2, DIMENSION), dtype=np.float32),
        "package": package,
    }
    return log_model(tracker, **(arguments | changes))
