"""The model as MLflow serves it: MLflow runs this file ("models from code") and unpickles nothing."""

import json
from pathlib import Path

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class Embedding:
    """Embeds person images of either modality."""

    def load_context(self, context) -> None:
        """Builds the network from the artifacts `spec` (JSON) and `weights` (safetensors)."""
        from msclnet.embedding import load_embedder

        spec = json.loads(Path(context.artifacts["spec"]).read_text(encoding="utf-8"))
        self._embed = load_embedder(Path(context.artifacts["weights"]), spec)

    def predict(self, context, model_input, params=None) -> np.ndarray:
        """Embeds a batch of any size: float32 (N, D), the same vectors as the pipeline's.

        `model_input`: `images` uint8 (N, H, W, 3) RGB, 0..255; `infrared` bool (N,), true where the image was taken
        by an infrared camera. Both modalities may be mixed.
        """
        images = np.ascontiguousarray(model_input["images"], dtype=np.uint8)
        infrared = np.ascontiguousarray(model_input["infrared"], dtype=bool)
        if images.ndim != 4 or infrared.shape != images.shape[:1]:
            raise ValueError(
                f"images has shape {images.shape}, expected (N, H, W, 3); "
                f"infrared has shape {infrared.shape}, expected (N,)"
            )
        return np.asarray(self._embed(images, infrared), dtype=np.float32)


class EmbeddingModel(Embedding, PythonModel):
    """The same for MLflow, which asks a class that defines `predict` itself for type hints at every load.

    Its type hints cannot describe named tensors; the model's signature does.
    """


set_model(EmbeddingModel())
