"""A registered model's files, downloaded: its weights and the specification of its network."""

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msclnet.errors import UserError
from msclnet.tracking.champion import find_aliased
from msclnet.tracking.masking import brief
from msclnet.tracking.server import UNKNOWN, Server, connect, exists, explained, tracking_uri

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

_ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>[0-9]+))")


@dataclass(frozen=True)
class RegisteredModel:
    """A version of a registered model, downloaded."""

    name: str
    version: str
    run_id: str  # the run that trained it
    height: int  # pixels of the images that it takes
    width: int
    weights: Path  # safetensors file
    spec: dict[str, Any]  # what msclnet.embedding.load_network takes


@contextmanager
def downloaded_model(address: str, *, home: Path) -> Iterator[RegisteredModel]:
    """The files of `models:/NAME@ALIAS` or `models:/NAME/VERSION`, for the length of the block.

    Nothing of the version is executed: only its weights (safetensors) and JSON are read. `home` as of `server.connect`.

    Raises:
        UserError: The address is none, nothing is registered under it (the message names what is), the server does
            not answer, or the version's files are missing or belong to another kind of model.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise UserError(
            f"{address}: a registered model is named models:/NAME@ALIAS or models:/NAME/VERSION, "
            "such as models:/msclnet@champion"
        )
    if not exists(home):
        raise UserError(
            f"{address}: there is no registry yet ({tracking_uri(home)} is missing); `dvc repro` trains a model and "
            "registers it, or set MLFLOW_TRACKING_URI to the server that has it"
        )
    server = connect(home)
    with explained(server):
        found = _find(server, match["name"], alias=match["alias"], version=match["version"])
    with tempfile.TemporaryDirectory() as folder:
        yield _download(server, found, Path(folder))


def _find(server: Server, name: str, *, alias: str | None, version: str | None) -> "ModelVersion":
    from mlflow import MlflowException

    client = server.client
    if alias is not None:
        if (found := find_aliased(server, name, alias=alias)) is not None:
            return found
    else:
        try:
            return client.get_model_version(name, str(version))
        except MlflowException as error:
            if error.error_code not in UNKNOWN:
                raise
    where = f"the registry of {server.masked_uri}"
    known = [model.name for model in client.search_registered_models(max_results=100)]
    if name not in known:
        names = ", ".join(sorted(known)) or "none; `dvc repro` trains and registers one"
        raise UserError(f"{where} has no model {name!r} (registered: {names})")
    wanted = f"alias {alias!r}" if alias is not None else f"version {version}"
    aliases = ", ".join(sorted(client.get_registered_model(name).aliases)) or "none"
    raise UserError(
        f"{name} has no {wanted} in {where} (aliases: {aliases}); `dvc repro evaluate` gives the aliases, "
        f"and models:/{name}/VERSION names a version by its number"
    )


def _download(server: Server, found: "ModelVersion", folder: Path) -> RegisteredModel:
    import mlflow.artifacts
    from mlflow import MlflowException
    from mlflow.models import Model

    label = f"{found.name} version {found.version}"
    try:
        source = server.client.get_model_version_download_uri(found.name, found.version)
        local = Path(
            mlflow.artifacts.download_artifacts(
                artifact_uri=source, dst_path=str(folder), tracking_uri=server.uri
            )
        )
        model = Model.load(str(local))
    except (MlflowException, OSError) as error:
        raise UserError(
            f"{label}: its files cannot be loaded ({brief(error)}); choose another version, or train again"
        ) from None
    try:
        artifacts = model.flavors["python_function"]["artifacts"]
        height, width = model.get_input_schema().input_dict()["images"].shape[1:3]  # pyright: ignore
        spec = json.loads((local / artifacts["spec"]["path"]).read_text(encoding="utf-8"))
        weights = local / artifacts["weights"]["path"]
    except (AttributeError, KeyError, OSError, TypeError, ValueError, MlflowException):
        raise UserError(f"{label} is no model of this project; choose another one") from None
    return RegisteredModel(
        found.name, str(found.version), str(found.run_id), int(height), int(width), weights, spec
    )
