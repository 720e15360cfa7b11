"""The model registry: a trained network as a version that any installation of MLflow can load, and its two aliases."""

import json
import logging
import shutil
import tempfile
from collections.abc import Mapping
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import numpy as np

import msclnet
from msclnet.tracking.masking import brief
from msclnet.tracking.run import Tracker
from msclnet.tracking.server import Server, explained

MODEL_NAME = "msclnet"
CANDIDATE = "candidate"
CHAMPION = "champion"
SCORE_TAG = "validation_score"  # percent, higher is better; never a figure of the test identities
DIGEST_TAG = "dataset_digest"
DESCRIPTION_LENGTH = 5000  # characters
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
) -> str | None:
    """Logs the trained network into the run and registers it as a new version.

    The logged model is self-contained: safetensors weights, the spec, and a copy of this package's source, so
    that a version keeps working after the code has changed. It holds no pickle.

    Args:
        tracker: The run that the model belongs to.
        weights: safetensors file.
        spec: How to build the network, for `msclnet.embedding.load_network`; ready for JSON.
        example: `images` uint8 (N, H, W, 3) and `infrared` bool (N,); a few images of both modalities.
        reference_vectors: float32 (N, D), the pipeline's embeddings of the example; kept with the model so
            that any installation can be checked against them.
        name: Registered model. Give each data set its own: champions are compared on one data set only.

    Returns:
        The version, or `None` with a warning when the server does not answer.
    """
    from mlflow import MlflowException
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    client = tracker.server.client
    try:
        logged = client.create_logged_model(tracker.experiment_id, name=name, source_run_id=tracker.run_id)
        model_id, location = logged.model_id, logged.artifact_location
        with tempfile.TemporaryDirectory() as folder:
            _save_model(
                Path(folder) / "model",
                Model(artifact_path=location, run_id=tracker.run_id, model_id=model_id, model_uuid=model_id),
                weights=weights,
                spec=spec,
                example=example,
                reference_vectors=reference_vectors,
            )
            client.log_model_artifacts(model_id, f"{folder}/model")
        client.finalize_logged_model(model_id, "READY")
        client.log_outputs(tracker.run_id, [LoggedModelOutput(model_id, step=0)])
        return _register(tracker, name, model_id, source=location)
    except (MlflowException, OSError) as error:
        logger.warning(
            "the model was not registered as %s at %s: %s. Its weights remain in %s.",
            name,
            tracker.server.masked_uri,
            brief(error),
            weights,
        )
        return None


def find_version(tracker: Tracker, *, name: str) -> str | None:
    """The newest version that this run registered, or `None`."""
    with explained(tracker.server):
        found = tracker.server.client.search_model_versions(
            f"name = '{name}' and run_id = '{tracker.run_id}'"
        )
    return max((str(entry.version) for entry in found), key=int, default=None)


def add_file(tracker: Tracker, version: str, path: Path, *, name: str = MODEL_NAME) -> None:
    """Stores a file next to the weights of a registered version; `read_file` and `downloaded_model` have it there."""
    client = tracker.server.client
    with explained(tracker.server), tempfile.TemporaryDirectory() as folder:
        found = client.get_model_version(name, version)
        # The SQL store of versions keeps the place of the logged model and not its id.
        logged = client.search_logged_models([tracker.experiment_id], f"source_run_id = '{found.run_id}'")
        model_id = next(model.model_id for model in logged if model.artifact_location == found.source)
        (Path(folder) / "artifacts").mkdir()
        shutil.copy(path, Path(folder) / "artifacts")
        client.log_model_artifacts(model_id, folder)


def describe(server: Server, version: str, text: str, *, name: str = MODEL_NAME) -> None:
    """Makes a Markdown text the description of a registered version, as far as MLflow's databases hold one."""
    with explained(server):
        server.client.update_model_version(name, version, description=text[:DESCRIPTION_LENGTH])


def read_file(server: Server, version: str, file: str, *, name: str, folder: Path) -> Path | None:
    """Downloads a file that `add_file` has stored; `None` where the version has none of that name."""
    import mlflow.artifacts

    with explained(server):
        stored = f"{server.client.get_model_version(name, version).source}/artifacts"
        names = [entry.path for entry in mlflow.artifacts.list_artifacts(stored, tracking_uri=server.uri)]
        if file not in [Path(entry).name for entry in names]:
            return None
        return Path(
            mlflow.artifacts.download_artifacts(
                artifact_uri=f"{stored}/{file}", dst_path=str(folder), tracking_uri=server.uri
            )
        )


def set_candidate(
    tracker: Tracker,
    version: str,
    metrics: Mapping[str, float],
    *,
    dataset_digest: str = "",
    name: str = MODEL_NAME,
) -> None:
    """Marks an evaluated version as the candidate and stores its metrics as the version's tags.

    Among the metrics is `SCORE_TAG`, where there are validation identities to compare models on.
    """
    client = tracker.server.client
    tags = {metric: repr(float(value)) for metric, value in metrics.items()} | {DIGEST_TAG: dataset_digest}
    with explained(tracker.server):
        for tag, value in tags.items():
            client.set_model_version_tag(name, version, tag, value)
        client.set_registered_model_alias(name, CANDIDATE, version)


def _save_model(
    target: Path,
    model: Any,
    *,
    weights: Path,
    spec: Mapping,
    example: Mapping[str, np.ndarray],
    reference_vectors: np.ndarray,
) -> None:
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
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
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "spec.json").write_text(json.dumps(dict(spec), indent=2, sort_keys=True), encoding="utf-8")
        np.save(folder / "reference.npy", np.asarray(reference_vectors, np.float32), allow_pickle=False)
        shutil.copytree(msclnet.__path__[0], folder / "msclnet", ignore=shutil.ignore_patterns("__pycache__"))
        mlflow.pyfunc.save_model(
            target,
            python_model=str(Path(__file__).with_name("served_model.py")),
            artifacts={
                "weights": str(weights),
                "spec": f"{folder}/spec.json",
                "reference": f"{folder}/reference.npy",
            },
            code_paths=[f"{folder}/msclnet"],
            signature=signature,
            input_example=dict(example),
            # Without a build's local part: `2.1.0+cpu` is on no index under that name.
            pip_requirements=[
                f"{each}=={installed_version(each).partition('+')[0]}" for each in REQUIREMENTS
            ],
            mlflow_model=model,
        )


def _register(tracker: Tracker, name: str, model_id: str, *, source: str) -> str:
    from mlflow import MlflowException

    client = tracker.server.client
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    entry = client.create_model_version(
        name, source, run_id=tracker.run_id, model_id=model_id, await_creation_for=60
    )
    return str(entry.version)
