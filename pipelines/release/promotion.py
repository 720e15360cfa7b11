"""The alias `champion` moved by a person: `msclnet promote`, `msclnet rollback`, and the answer to a waiting flow."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msclnet.errors import UserError
from msclnet.tracking.champion import find_aliased
from msclnet.tracking.champion import rollback as put_back
from msclnet.tracking.registry import CANDIDATE
from msclnet.tracking.run import Tracker
from msclnet.tracking.server import Server, connect, exists, tracking_uri
from pipelines import settings
from pipelines.console import printable
from pipelines.stages.config import load_params
from pipelines.stages.gate import consider, write_report
from pipelines.stages.params import Promote
from pipelines.stages.paths import PARAMS, PROMOTION, PROMOTION_PAGE


def promote(version: str | None, *, model: str | None, force: bool) -> None:
    """Hold a version (None: the candidate) against the champion by the rules of params.yaml; promote it if they hold.

    The report goes into the MLflow run that trained the version. `force` promotes it whatever the rules say.
    """
    params = load_params(PARAMS)
    server, name = _registry(settings.home()), model or params.tracking.registered_model
    print(_decide(server, name, version or _candidate(server, name), params.promote, force=force))


def approve(decision: Mapping[str, Any], *, root: Path) -> str:
    """Promote a candidate that waits by results/metrics/promotion.json; returns what was done, in a sentence."""
    rules = Promote.model_validate(decision["limits"])  # applied again: the champion may be another now
    server = _registry(settings.home(root))
    return _decide(server, decision["model"], decision["candidate"]["version"], rules, force=False)


def _decide(server: Server, name: str, version: str, rules: Promote, *, force: bool) -> str:
    decision = consider(server, name, version, rules, by_hand=True, force=force)
    tracker = Tracker.attach(decision.candidate["run_id"], home=server.home)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / path.name for path in (PROMOTION, PROMOTION_PAGE)]
        write_report(decision, *files)
        for path in files:
            tracker.log_artifact(path, "promotion")
        tracker.finish("FINISHED")
    if decision.status == "refused":
        raise UserError(f"{decision.reason}. `--force` promotes it nevertheless")
    return printable(decision.reason)


def rollback(*, model: str | None) -> None:
    """Put the former champion back."""
    name = model or load_params(PARAMS).tracking.registered_model
    before, after = put_back(_registry(settings.home()), name=name)
    print(f"{name}: version {after} is the champion again, in the place of version {before}")


def _registry(home: Path) -> Server:
    if not exists(home):
        raise UserError(
            f"there is no registry yet ({tracking_uri(home)} is missing); `dvc repro` trains a model and registers "
            "it, or set MLFLOW_TRACKING_URI to the server that has it"
        )
    return connect(home)


def _candidate(server: Server, name: str) -> str:
    found = find_aliased(server, name, alias=CANDIDATE)
    if found is None:
        raise UserError(
            f"{name} has no version with the alias {CANDIDATE} at {server.masked_uri}; name a version, or evaluate one"
        )
    return str(found.version)
