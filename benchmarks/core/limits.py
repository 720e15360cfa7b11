"""What this machine can do at most: matrix products by precision, and reading memory.

A limit is measured in the same turns as what it bounds. Several libraries compute the same product, and none is the
fastest everywhere: the fastest one is the limit.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.core.turns import Timings

if TYPE_CHECKING:
    import torch

SIDE = {"cpu": 2048, "cuda": 8192}
BYTES = {"cpu": 2**28, "cuda": 2**31}
BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # x86 and ARM, as Linux names them

Ways = dict[str, Callable[[], object]]


def has_bf16(device: "torch.device") -> bool:
    """Whether the device multiplies bf16 numbers by instructions of its own."""
    if device.type == "cuda":
        import torch

        return torch.cuda.is_bf16_supported(including_emulation=False)
    information = Path("/proc/cpuinfo")
    return information.exists() and bool(BF16_FLAGS & set(information.read_text().split()))


def product_ways(precision: str, device: "torch.device") -> Ways:
    """Square matrix products in one precision, by each library that could be the fastest.

    The names start with `limit`; see `product_rates`.

    Args:
        precision: `fp32` (on a GPU with TF32, as its convolutions compute) or `bf16`.
        device: Where.
    """
    import torch
    import torch.nn.functional as F

    side = SIDE[device.type]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    matrix = torch.rand(side, side, device=device).to(dtype)

    def product() -> None:
        former = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
        torch.mm(matrix, matrix)
        torch.backends.cuda.matmul.allow_tf32 = former

    ways: Ways = {f"limit {precision} torch": product}
    if device.type == "cpu" and torch.backends.mkldnn.is_available():
        packed = (
            matrix.to_mkldnn()
        )  # the library of the convolutions, which torch.mm does not use for float32
        ways[f"limit {precision} oneDNN"] = lambda: F.linear(packed, packed)
    if device.type == "cpu" and precision == "fp32":
        array = matrix.numpy()
        ways["limit fp32 numpy"] = lambda: array @ array
    return ways


def product_rates(timings: Timings, precision: str, device: "torch.device") -> list[float]:
    """The fastest product's floating-point operations a second, by turn (a multiplication and an addition are two).

    Raises:
        ValueError: No product of this precision was timed.
    """
    return _fastest(timings, f"limit {precision} ", 2 * SIDE[device.type] ** 3)


def reading_ways(device: "torch.device") -> Ways:
    """Reading much more memory than the caches hold."""
    import torch

    values = torch.ones(BYTES[device.type] // 4, device=device)
    ways: Ways = {"limit reading torch": values.sum}
    if device.type == "cpu":
        array = values.numpy()
        ways["limit reading numpy"] = lambda: np.dot(array, array)
    return ways


def reading_rates(timings: Timings, device: "torch.device") -> list[float]:
    """Bytes a second of the fastest reader, by turn.

    Raises:
        ValueError: No reading was timed.
    """
    return _fastest(timings, "limit reading ", BYTES[device.type])


def _fastest(timings: Timings, start: str, amount: float) -> list[float]:
    names = [name for name in timings.seconds if name.startswith(start)]
    if not names:
        raise ValueError(f"nothing that starts with {start!r} was timed")
    # One library for all turns: the fastest in a single turn may only have been lucky.
    best = min(names, key=timings.median)
    return [amount / seconds for seconds in timings.seconds[best]]


def ideal_seconds(operations: Mapping[str, float], rates: Mapping[str, Sequence[float]]) -> list[float]:
    """Time at the limit, by turn, of work that mixes precisions.

    Args:
        operations: Floating-point operations by precision.
        rates: What the machine did in a second of each turn, by precision.
    """
    turns = len(next(iter(rates.values())))
    return [sum(count / rates[precision][i] for precision, count in operations.items()) for i in range(turns)]
