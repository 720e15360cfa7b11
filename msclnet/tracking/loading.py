"""Loads a registered model by its alias or version, with the code that it brought along."""

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msclnet.errors import UserError
from msclnet.tracking.masking import brief
from msclnet.tracking.run_setup import explained
from msclnet.tracking.server import Server, connect

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

PREFIX = "models:/"
_ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>[0-9]+))")
_CODE_LOADER = "mlflow.pyfunc.loaders.code_model"
_PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".joblib", ".cloudpickle", ".dill"}
_UNKNOWN = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


@dataclass(frozen=True)
class RegisteredModel:
    """A version of a registered model, loaded.

    Attributes:
        name, version, run_id: Which one it is; `run_id` is the run that trained it.
        height, width: Pixels of the images that it takes.
        embed: uint8 RGB (N, height, width, 3) and bool (N,) infrared -> float32 (N, D) BNNeck features.
    """

    name: str
    version: str
    run_id: str
    height: int
    width: int
    embed: Callable[[np.ndarray, np.ndarray], np.ndarray]


def load_registered(address: str, *, home: Path) -> RegisteredModel:
    """Load `models:/NAME@ALIAS` or `models:/NAME/VERSION`, on the CPU.

    The version's own code is run: who may write to the registry may run programs here. Pickles are not read unless
    MLFLOW_ALLOW_PICKLE_DESERIALIZATION is true.

    Args:
        address: Which model.
        home: Folder of the local MLflow database; unused when MLFLOW_TRACKING_URI names a server.

    Raises:
        UserError: The address is none, nothing is registered under it (the message names what is), the server does
            not answer, or the version's files are missing or hold a pickle or another kind of model.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise UserError(
            f"{address}: a registered model is named models:/NAME@ALIAS or models:/NAME/VERSION, "
            "such as models:/msclnet@champion"
        )
    database = home / "mlruns" / "mlflow.db"
    if not os.environ.get("MLFLOW_TRACKING_URI", "").strip() and not database.is_file():
        raise UserError(
            f"{address}: there is no registry yet ({database} is missing); `dvc repro` trains a model and registers "
            "it, or set MLFLOW_TRACKING_URI to the server that has it"
        )
    server = connect(home)
    with explained(server):
        found = _find(server, match["name"], alias=match["alias"], version=match["version"])
        source = server.client.get_model_version_download_uri(found.name, found.version)
    model = _load(source, server, label=f"{found.name} version {found.version}")
    height, width = _image_size(model, label=f"{found.name} version {found.version}")

    def embed(images: np.ndarray, infrared: np.ndarray) -> np.ndarray:
        return np.asarray(model.predict({"images": images, "infrared": infrared}))

    return RegisteredModel(found.name, str(found.version), str(found.run_id), height, width, embed)


def _find(server: Server, name: str, *, alias: str | None, version: str | None) -> "ModelVersion":
    from mlflow import MlflowException

    client = server.client
    try:
        if alias is not None:
            return client.get_model_version_by_alias(name, alias)
        return client.get_model_version(name, str(version))
    except MlflowException as error:
        if error.error_code not in _UNKNOWN:
            raise
    where = f"the registry of {server.masked_uri}"
    wanted = f"alias {alias!r}" if alias is not None else f"version {version}"
    known = {model.name: model for model in client.search_registered_models(max_results=100)}
    if name not in known:
        names = ", ".join(sorted(known)) or "none; `dvc repro` trains and registers one"
        raise UserError(f"{where} has no model {name!r} (registered: {names})")
    aliases = ", ".join(sorted(client.get_registered_model(name).aliases)) or "none"
    raise UserError(
        f"{name} has no {wanted} in {where} (aliases: {aliases}); `dvc repro evaluate` gives the aliases, "
        f"and {PREFIX}{name}/VERSION names a version by its number"
    )


def _load(source: str, server: Server, *, label: str) -> Any:
    import mlflow.artifacts
    import mlflow.pyfunc

    with tempfile.TemporaryDirectory() as folder:
        try:
            local = mlflow.artifacts.download_artifacts(
                artifact_uri=source, dst_path=folder, tracking_uri=server.uri
            )
            _check_no_pickle(Path(local), label=label)
            with _code_of_the_model():
                return mlflow.pyfunc.load_model(local)
        except UserError:
            raise
        # The model's own code may raise anything, its own copy of UserError included.
        except Exception as error:
            raise UserError(
                f"{label} cannot be loaded ({type(error).__name__}: {brief(error)}); choose another version, or "
                "train again"
            ) from error


def _check_no_pickle(folder: Path, *, label: str) -> None:
    """A model of this project is code, JSON and safetensors; any other may hold a pickle, which runs when it is read.

    MLflow has a switch of its own for pickles, but not in all of its loaders. It is the user's word here as well.
    """
    from mlflow.environment_variables import MLFLOW_ALLOW_PICKLE_DESERIALIZATION
    from mlflow.models import Model

    if MLFLOW_ALLOW_PICKLE_DESERIALIZATION.get():
        return
    pickles = [path.name for path in sorted(folder.rglob("*")) if path.suffix.lower() in _PICKLES]
    loader = (Model.load(str(folder)).flavors or {}).get("python_function", {}).get("loader_module")
    if pickles or loader != _CODE_LOADER:
        found = f"holds {pickles[0]}" if pickles else f"is read by {loader}"
        raise UserError(
            f"{label} {found} and may thus run anything while it is read; a model of this project does not. If you "
            "trust whoever registered it, set MLFLOW_ALLOW_PICKLE_DESERIALIZATION=true"
        )


@contextmanager
def _code_of_the_model() -> Iterator[None]:
    """Within the block, `import msclnet` finds the copy that the model brought; afterwards this one again.

    MLflow puts the copy first on the path, which is in vain for modules that are imported already: new code
    would then read old weights.
    """
    path, ours = list(sys.path), _modules()
    for name in ours:
        del sys.modules[name]
    try:
        yield
    finally:
        for name in _modules():
            del sys.modules[name]
        sys.modules.update(ours)
        sys.path[:] = path


def _modules() -> dict[str, Any]:
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "msclnet"}


def _image_size(model: Any, *, label: str) -> tuple[int, int]:
    schema = model.metadata.get_input_schema()
    inputs = schema.input_dict() if schema is not None and schema.has_input_names() else {}
    shape = getattr(inputs.get("images"), "shape", ())
    if set(inputs) != {"images", "infrared"} or len(shape) != 4:
        raise UserError(
            f"{label} is no MSCLNet embedding: it does not take `images` (N, H, W, 3) and `infrared` (N,)"
        )
    return int(shape[1]), int(shape[2])
