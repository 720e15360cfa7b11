"""Logs a trained network into its run, in a form that anybody with MLflow can load."""

import json
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version as installed_version
from pathlib import Path

import numpy as np

import msclnet
from msclnet.tracking.masking import brief
from msclnet.tracking.registry import MODEL_NAME, register
from msclnet.tracking.run import Tracker

REQUIREMENTS = ("mlflow", "numpy", "safetensors", "torch", "torchvision", "tqdm")

logger = logging.getLogger("msclnet.tracking")


def log_model(
    tracker: Tracker,
    *,
    weights: Path,
    spec: Mapping,
    example: Mapping[str, np.ndarray],
    reference_vectors: np.ndarray,
    name: str = MODEL_NAME,
    requirements: Sequence[str] = REQUIREMENTS,
    package: Path | None = None,
) -> str | None:
    """Logs the trained network into the run and registers it as a new version.

    The logged model is self-contained: safetensors weights, the spec, and a copy of this package's source, so
    that a version keeps working after the code has moved on. It holds no pickle.

    Args:
        tracker: The run that the model belongs to.
        weights: safetensors file.
        spec: How to build the network, for `msclnet.embedding.load_embedder`; ready for JSON.
        example: `images` uint8 (N, H, W, 3) and `infrared` bool (N,); a few images of both modalities.
        reference_vectors: float32 (N, D), the pipeline's embeddings of the example; kept beside the model so
            that any installation can be checked against them.
        name: Registered model. Give each data set its own: champions are compared on one data set only.
        requirements: Packages that serving needs; pinned to the installed versions.
        package: The package to store; by default the installed `msclnet`.

    Returns:
        The version, or `None` with a warning when the server does not answer.

    Raises:
        FileNotFoundError: There are no weights.
    """
    from mlflow import MlflowException

    if not weights.is_file():
        raise FileNotFoundError(weights)
    client = tracker.server.client
    model_id = None
    try:
        logged = client.create_logged_model(tracker.experiment_id, name=name, source_run_id=tracker.run_id)
        model_id = logged.model_id
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "model"
            _write_model(
                target,
                location=logged.artifact_location,
                ids=(tracker.run_id, model_id),
                files={"weights": weights},
                spec=spec,
                example=example,
                reference_vectors=reference_vectors,
                requirements=requirements,
                package=package or Path(msclnet.__path__[0]),
            )
            client.log_model_artifacts(model_id, str(target))
        client.finalize_logged_model(model_id, "READY")
        _attach_to_run(tracker, model_id)
        return register(tracker, name, model_id, source=logged.artifact_location)
    except (MlflowException, OSError) as error:
        logger.warning(
            "the model was not registered as %s at %s: %s. Its weights remain in %s.",
            name,
            tracker.server.masked_uri,
            brief(error),
            weights,
        )
        return None


def _write_model(
    target: Path,
    *,
    location: str,
    ids: tuple[str, str],
    files: Mapping[str, Path],
    spec: Mapping,
    example: Mapping[str, np.ndarray],
    reference_vectors: np.ndarray,
    requirements: Sequence[str],
    package: Path,
) -> None:
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    height, width, channels = example["images"].shape[1:]
    signature = ModelSignature(
        inputs=Schema(
            [
                TensorSpec(np.dtype(np.uint8), (-1, height, width, channels), "images"),
                TensorSpec(np.dtype(bool), (-1,), "infrared"),
            ]
        ),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, reference_vectors.shape[1]))]),
    )
    run_id, model_id = ids
    with tempfile.TemporaryDirectory() as folder:
        spec_file = Path(folder) / "spec.json"
        spec_file.write_text(json.dumps(dict(spec), indent=2, sort_keys=True), encoding="utf-8")
        vectors_file = Path(folder) / "reference.npy"
        np.save(vectors_file, np.asarray(reference_vectors, dtype=np.float32), allow_pickle=False)
        code = Path(folder) / "msclnet"
        shutil.copytree(package, code, ignore=shutil.ignore_patterns("__pycache__"))
        artifacts = {**files, "spec": spec_file, "reference": vectors_file}
        mlflow.pyfunc.save_model(
            target,
            python_model=str(Path(__file__).with_name("served_model.py")),
            artifacts={key: str(path) for key, path in artifacts.items()},
            code_paths=[str(code)],
            signature=signature,
            input_example={
                "images": np.asarray(example["images"], dtype=np.uint8),
                "infrared": np.asarray(example["infrared"], dtype=bool),
            },
            pip_requirements=[f"{entry}=={_public_version(entry)}" for entry in requirements],
            mlflow_model=Model(artifact_path=location, run_id=run_id, model_id=model_id, model_uuid=model_id),
        )


def _attach_to_run(tracker: Tracker, model_id: str) -> None:
    from mlflow.entities import LoggedModelOutput

    tracker.server.client.log_outputs(tracker.run_id, [LoggedModelOutput(model_id, step=0)])


def _public_version(package: str) -> str:
    """The version without a build's local part: `2.1.0+cpu` is on no index under that name."""
    return installed_version(package).partition("+")[0]
