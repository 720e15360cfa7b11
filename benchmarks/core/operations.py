"""How many floating-point operations a piece of work takes, counted by torch while it runs."""

from collections.abc import Callable

from torch.utils.flop_counter import FlopCounterMode


def count_operations(work: Callable[[], object], *, precision: str) -> dict[str, float]:
    """Operations of one run; a multiplication and an addition are two.

    Args:
        work: Run once.
        precision: Of the convolutions; all other products are float32, as heads and losses always are.

    Returns:
        By precision.
    """
    with FlopCounterMode(display=False) as counter:
        work()
    counts = counter.get_flop_counts()["Global"]
    convolutions = float(sum(n for operator, n in counts.items() if "convolution" in str(operator)))
    others = float(sum(counts.values())) - convolutions
    operations = {"fp32": others}
    operations[precision] = operations.get(precision, 0.0) + convolutions
    return operations
