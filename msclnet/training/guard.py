"""Stops a training that has gone wrong, with a word on why."""

import math
from collections.abc import Mapping, Sequence

from msclnet.errors import UserError


class DivergedError(UserError):
    """The training left the range in which it can recover.

    Attributes:
        steps: The last ones before its end: `step` since the start of the training, `total` and `feature_norm`.
    """

    steps: Sequence[Mapping[str, float]] = ()


def check_losses(values: Mapping[str, float], *, epoch: int, step: int) -> None:
    """Every term must be finite.

    Raises:
        DivergedError: Names the terms that are not.
    """
    wrong = {name: value for name, value in values.items() if not math.isfinite(value)}
    if wrong:
        terms = ", ".join(f"{name} = {value}" for name, value in wrong.items())
        raise DivergedError(
            f"training stopped in epoch {epoch}, step {step}: {terms}. Lower train.optimizer.schedule's rate or the "
            "term's loss.<term>.weight, switch its printed form off, or set train.precision to fp32"
        )


def check_norm(norm: float, *, limit: float, epoch: int, step: int) -> None:
    """The mean norm of the pooled feature must stay within (0, limit].

    A runaway feature never becomes NaN under batch norm, so that a check for NaN alone misses it.

    Raises:
        DivergedError: It does not.
    """
    if not 0 < norm <= limit:
        raise DivergedError(
            f"training stopped in epoch {epoch}, step {step}: the pooled feature's mean norm is {norm:.3g}, beyond "
            f"train.norm_limit = {limit:g}. A loss without a bound drives it (loss.cascade.normalised: false and "
            "loss.inter.form: negative do); take the bounded form or a smaller weight"
        )
