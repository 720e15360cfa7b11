"""Decides whether two settings train identical test-time networks.

Rows of an ablation table differ in their parameters. Where a parameter moves the synergistic branch alone, and the
branch does not reach the extractors, two rows are one and the same model, bit for bit. The rules are those of
msclnet/losses/objective.py; a test trains the rows of experiments/ablation.yaml and compares the weights.
"""

import json
from collections.abc import Mapping
from typing import Any

_CASCADE = ("sub", "intra", "inter")
_OF_THE_BRANCH = ("synergy_identity", "local", "global")
# Keys that change neither weights nor figures of the extractors begin with these.
_WITHOUT_EFFECT = ("seed", "profile", "promote.", "tracking.", "visualize.")
_TERMS = ("identity", "triplet", *_OF_THE_BRANCH, "divergence", "target", *_CASCADE)
# `auto` leaves the precision to the machine, as the number of cores is.
_PRECISION = ("train.precision", "embed.precision")
_LSTM = ("synergy.reading", "synergy.rounds", "synergy.rank", "synergy.bias")


def effective(params: Mapping[str, Any]) -> str:
    """The parameters (by dotted key) that can change what is tested, as text: equal texts give identical networks."""
    kept = {key: value for key, value in params.items() if not key.startswith(_WITHOUT_EFFECT)}
    if "loss.routing" in params:
        idle = tuple(_idle(params))
        kept = {key: value for key, value in kept.items() if not key.startswith(idle)}
    return json.dumps(kept, sort_keys=True, default=str)


def same_setting(recorded: Mapping[str, Any], present: Mapping[str, Any]) -> bool:
    """Whether a record was made with the present parameters, as far as they have an effect; seeds are not compared.

    A parameter that is younger than the record counts as having had its present value: where that value changes
    results, msclnet.recipe has been raised. A recorded precision agrees with `auto`.
    """
    chosen = {key: "auto" for key in _PRECISION if present.get(key) == "auto" and key in recorded}
    return effective({**present, **recorded, **chosen}) == effective(present)


def branch_reaches_extractors(params: Mapping[str, Any]) -> bool:
    """Whether anything that the synergistic branch learns can reach the tested extractors."""

    def on(term: str) -> bool:
        return params[f"loss.{term}.on"]

    teaches = (
        on("target")
        and params["synergy.target"] == "synergy"
        and params["synergy.teacher"] in ("mogrifier", "parts_mean")
    )
    in_cascade = params["loss.cascade.synergistic"] and any(on(term) for term in _CASCADE)
    joint = params["loss.routing"] == "joint" and (on("local") or on("global"))
    through_inputs = params["synergy.inputs"] == "joint" and on("synergy_identity")
    return teaches or in_cascade or joint or through_inputs


def _idle(params: Mapping[str, Any]) -> list[str]:
    """Beginnings of the keys that have no effect under these parameters."""
    idle = [f"loss.{term}." for term in _TERMS if not params[f"loss.{term}.on"]]
    if not any(params[f"loss.{term}.on"] for term in _CASCADE):
        idle.append("loss.cascade.")
    if not params["loss.target.on"]:
        idle += ["synergy.temperature"]
    if not branch_reaches_extractors(params):
        idle += [f"loss.{term}." for term in _OF_THE_BRANCH]
        idle += ["loss.routing", "synergy.inputs", "synergy.residual", *_LSTM]
        if not params["loss.target.on"]:
            idle.append("synergy.teacher")
    elif params["synergy.teacher"] == "parts_mean":
        idle += [*_LSTM, "synergy.residual"]
        if params["loss.routing"] == "paper":  # the mean of the parts has nothing that L_com could train
            idle += ["loss.local.", "loss.global."]
    sees_normalised = branch_reaches_extractors(params) and params["synergy.teacher"] == "mogrifier"
    if (
        params["loss.divergence.reach"] == "affine"
        and params["synergy.target"] == "synergy"
        and not sees_normalised
    ):
        idle.append("loss.divergence.")
    return idle
