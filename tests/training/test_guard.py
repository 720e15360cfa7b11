"""What counts as gone wrong, and what is said of it."""

import math
from typing import Any

import pytest
from tiny_training import ROOT

from msclnet.errors import UserError
from msclnet.losses.objective import Objective
from msclnet.training.epoch import DivergedError, check_losses, check_norm, remedy_for
from pipelines.stages.presets import preset_params


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_terms_that_are_not_finite_are_named(value: float) -> None:
    with pytest.raises(DivergedError) as caught:
        check_losses({"loss_identity": 1.0, "loss_sub": value, "total": value}, epoch=3, step=40)
    message = str(caught.value)
    assert "epoch 3, step 40" in message
    assert f"loss_sub = {value}" in message
    assert "loss_identity" not in message
    assert isinstance(caught.value, UserError)
    assert (caught.value.epoch, caught.value.step) == (3, 40)


def test_finite_terms_pass() -> None:
    check_losses({"a": 0.0, "b": -1e30, "c": 1e-30}, epoch=1, step=1)


@pytest.mark.parametrize("norm", [0.0, -1.0, 10.001, math.inf, math.nan])
def test_norms_out_of_range(norm: float) -> None:
    with pytest.raises(DivergedError, match=r"epoch 2, step 5: .*train\.norm_limit = 10\b"):
        check_norm(norm, limit=10.0, epoch=2, step=5)


@pytest.mark.parametrize("norm", [1e-9, 1.0, 10.0])
def test_norms_in_range(norm: float) -> None:
    check_norm(norm, limit=10.0, epoch=2, step=5)


@pytest.mark.parametrize(
    ("preset", "changes", "unstable"),
    [
        ("smoke", {}, []),
        ("smoke", {"inter": {"form": "negative"}}, ["loss.inter.form: negative"]),
        ("smoke", {"inter": {"form": "negative", "on": False}}, []),
        (
            "paper-printed",
            {},
            ["loss.cascade.normalised: false", "loss.inter.form: negative", "loss.local.form: printed"],
        ),
        ("baseline", {}, []),
    ],
)
def test_only_settings_in_use_are_named_as_the_remedy(
    preset: str, changes: dict[str, dict[str, Any]], unstable: list[str]
) -> None:
    params = preset_params(preset, ROOT)
    loss = params.section("loss")
    for term, values in changes.items():
        loss[term] |= values
    assert Objective(loss, params.section("synergy")).unstable == unstable
    remedy = remedy_for("fp32", unstable)
    assert "train.optimizer.schedule" in remedy
    assert all(setting in remedy for setting in unstable)
    assert "train.precision" not in remedy
    assert "train.precision: fp32" in remedy_for("bf16", unstable)
