"""The model registry: versions, and the aliases `candidate` and `champion`."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from msclnet.tracking import naming
from msclnet.tracking.run import Tracker
from msclnet.tracking.run_setup import explained
from msclnet.tracking.server import file_lock

MODEL_NAME = "msclnet"
CANDIDATE = "candidate"
CHAMPION = "champion"
SCORE_TAG = "validation_score"
DIGEST_TAG = "dataset_digest"


class Promotion(NamedTuple):
    """Whether a version is the champion now, and why, in a sentence for the log."""

    promoted: bool
    reason: str


def find_version(tracker: Tracker, *, name: str = MODEL_NAME) -> str | None:
    """The newest version that this run registered, or `None`."""
    with explained(tracker.server):
        found = tracker.server.client.search_model_versions(
            f"name = '{name}' and run_id = '{tracker.run_id}'"
        )
    return max((str(entry.version) for entry in found), key=int, default=None)


def set_candidate(
    tracker: Tracker, version: str, metrics: Mapping[str, float], *, name: str = MODEL_NAME
) -> None:
    """Marks an evaluated version as the candidate and stores its metrics as the version's tags."""
    client = tracker.server.client
    with explained(tracker.server):
        for metric, value in metrics.items():
            client.set_model_version_tag(name, version, naming.key(metric), repr(float(value)))
        client.set_registered_model_alias(name, CANDIDATE, version)


def promote(
    tracker: Tracker,
    version: str,
    *,
    validation_score: float,
    dataset_digest: str,
    name: str = MODEL_NAME,
    force: bool = False,
) -> Promotion:
    """Makes a version the champion if it beats the present one on the same validation identities.

    The first version becomes champion. A tie keeps the present champion. Scores of different data sets say
    nothing about each other, so a champion of another data set, or one without a score (set by hand), stays
    until somebody decides: with `force`, or with the alias in MLflow's UI. Whoever trains on several data
    sets gives each its own `name`.

    Args:
        tracker: Tells the server.
        version: The version to compare.
        validation_score: Of this version, higher is better; never a figure of the test identities.
        dataset_digest: Of the data set that the score was measured on.
        name: Registered model.
        force: Promote whatever the present champion is.

    Returns:
        Whether the version is the champion now, and why.

    Raises:
        UserError: The server does not answer.
    """
    client = tracker.server.client
    if not math.isfinite(validation_score):
        return Promotion(False, f"{name} version {version}: its validation score is {validation_score}")
    # Comparing and setting the alias are two requests: the lock keeps one machine's evaluations apart.
    with explained(tracker.server), file_lock(tracker.server.home / "mlruns" / "promotion.lock"):
        client.set_model_version_tag(name, version, SCORE_TAG, repr(float(validation_score)))
        client.set_model_version_tag(name, version, DIGEST_TAG, dataset_digest)
        verdict = _compare(tracker, version, validation_score, dataset_digest, name=name)
        if force and not verdict.promoted:
            verdict = Promotion(True, f"{name} version {version} is the champion now, by order")
        if verdict.promoted:
            client.set_registered_model_alias(name, CHAMPION, version)
    return verdict


def _compare(tracker: Tracker, version: str, score: float, digest: str, *, name: str) -> Promotion:
    from mlflow import MlflowException

    client = tracker.server.client
    this = f"{name} version {version}"
    try:
        champion = client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return Promotion(True, f"{this} is the first champion (validation score {score:.4f})")
    if str(champion.version) == version:
        return Promotion(True, f"{this} is the champion already")
    their_score, their_digest = champion.tags.get(SCORE_TAG), champion.tags.get(DIGEST_TAG)
    by_hand = (
        f"To promote by hand, set the alias {CHAMPION} of {name} to version {version} in MLflow's UI, or "
        "give each data set its own registered model."
    )
    if their_score is None or their_digest is None:
        reason = f"version {champion.version} is champion without a validation score to compare with"
    elif their_digest != digest:
        reason = (
            f"champion version {champion.version} was validated on the data set {their_digest[:12]}, this "
            f"one on {digest[:12]}: their scores are not comparable"
        )
    elif score > float(their_score):
        reason = f"validation score {score:.4f} beats {float(their_score):.4f} of version {champion.version}"
        return Promotion(True, f"{this} is the champion now: {reason}")
    else:
        reason = (
            f"validation score {score:.4f} does not beat "
            f"{float(their_score):.4f} of version {champion.version}"
        )
        return Promotion(False, f"{this} does not become champion: {reason}")
    return Promotion(False, f"{this} does not become champion: {reason}. {by_hand}")


def register(tracker: Tracker, name: str, model_id: str, *, source: str) -> str:
    """Makes a logged model the newest version of a registered model, which is created where missing."""
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
