"""The alias `champion` of a registered model: who has it, moving it, and putting the former one back."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from msclnet.errors import UserError
from msclnet.tracking.registry import CHAMPION, MODEL_NAME
from msclnet.tracking.server import UNKNOWN, Server, connect, exists, explained

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

FORMER_TAG = "former_champions"  # of the registered model: version numbers, the oldest first
ROLLED_BACK_TAG = "rolled_back"  # of a version: when it was replaced by a former champion


@contextmanager
def promotion_lock(server: Server) -> Iterator[None]:
    """Keeps one machine's promotions apart: comparing and setting the alias are several requests."""
    folder = server.home / "mlruns"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "promotion.lock"):
        yield


def find_aliased(server: Server, name: str, *, alias: str = CHAMPION) -> "ModelVersion | None":
    """The version that has an alias, or `None`."""
    from mlflow import MlflowException

    with explained(server):
        try:
            return server.client.get_model_version_by_alias(name, alias)
        except MlflowException as error:
            if error.error_code not in UNKNOWN:
                raise
    return None


def champion_version(name: str, *, home: Path) -> str | None:
    """The champion's version of a registered model; None where there is no registry, model or champion."""
    found = find_aliased(connect(home), name) if exists(home) else None
    return None if found is None else str(found.version)


def set_champion(server: Server, version: str, *, name: str = MODEL_NAME) -> None:
    """Moves the alias to a version, remembers the former champion, and reads the alias back."""
    former = find_aliased(server, name)
    if former is not None and str(former.version) != version:
        _remember(server, name, [*_former_champions(server, name), str(former.version)])
    with explained(server):
        server.client.delete_model_version_tag(name, version, ROLLED_BACK_TAG)
    _move(server, version, name=name)


def rollback(server: Server, *, name: str = MODEL_NAME) -> tuple[str, str]:
    """Puts the former champion back; a second call goes one further back.

    The replaced version is tagged, so that no evaluation promotes it again. Returns the versions that had the alias
    before and after; UserError where there is no champion or no former one that still exists.
    """
    with promotion_lock(server), explained(server):
        champion = find_aliased(server, name)
        if champion is None:
            raise UserError(f"{name} has no champion at {server.masked_uri}, so there is nothing to put back")
        existing = {str(each.version) for each in server.client.search_model_versions(f"name = '{name}'")}
        former = [version for version in _former_champions(server, name) if version in existing]
        if not former:
            raise UserError(
                f"{name}: version {champion.version} is the only champion that there was; "
                "`msclnet promote VERSION` makes another one the champion"
            )
        replaced = str(champion.version)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        server.client.set_model_version_tag(name, replaced, ROLLED_BACK_TAG, now)
        _move(server, former[-1], name=name)
        _remember(server, name, former[:-1])
    return replaced, former[-1]


def _move(server: Server, version: str, *, name: str) -> None:
    with explained(server):
        server.client.set_registered_model_alias(name, CHAMPION, version)
    found = find_aliased(server, name)
    if found is None or str(found.version) != version:
        raise UserError(
            f"{name}: the alias {CHAMPION} was set to version {version}, but {server.masked_uri} gives "
            f"{found and found.version} back; another program may have moved it: look at MLflow's UI and try again"
        )


def _former_champions(server: Server, name: str) -> list[str]:
    with explained(server):
        tags = server.client.get_registered_model(name).tags
    return [version for version in tags.get(FORMER_TAG, "").split(",") if version]


def _remember(server: Server, name: str, versions: list[str]) -> None:
    with explained(server):
        server.client.set_registered_model_tag(name, FORMER_TAG, ",".join(versions))
