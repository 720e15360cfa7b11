"""What this machine can do at most: matrix products by precision, and reading memory.

A limit is measured in the same turns as what it bounds. Several libraries compute the same product, and none is the
fastest everywhere: the fastest one is the limit.
"""

from collections.abc import Callable, Mapping
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

    The names start with `limit`; see `product_rate`.

    Args:
        precision: `fp32` (on a GPU with TF32, as its convolutions compute) or `bf16`.
        device: Where.
    """
    import torch
    import torch.nn.functional as F

    side = SIDE[device.type]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    matrix = torch.rand(side, side, device=device).to(dtype)
    maps = matrix.reshape(1, side // 32, 32, side).permute(0, 3, 1, 2)  # side x side as channels-last maps
    kernel = matrix.reshape(side, side, 1, 1)

    def product() -> None:
        former = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
        torch.mm(matrix, matrix)
        torch.backends.cuda.matmul.allow_tf32 = former

    def convolution() -> None:
        with torch.no_grad():
            F.conv2d(maps, kernel)

    ways: Ways = {f"limit {precision} product": product, f"limit {precision} 1 x 1 convolution": convolution}
    if device.type == "cpu" and precision == "fp32":
        array = matrix.numpy()
        ways["limit fp32 numpy"] = lambda: array @ array
    return ways


def product_rate(timings: Timings, precision: str, device: "torch.device") -> float:
    """The fastest product's floating-point operations a second (a multiplication and an addition are two).

    Raises:
        ValueError: No product of this precision was timed.
    """
    names = [name for name in timings.seconds if name.startswith(f"limit {precision} ")]
    if not names:
        raise ValueError(f"no product in {precision} was timed")
    return 2 * SIDE[device.type] ** 3 / min(timings.median(name) for name in names)


def reading_ways(device: "torch.device") -> Ways:
    """Reading much more memory than the caches hold."""
    import torch

    values = torch.ones(BYTES[device.type] // 4, device=device)
    ways: Ways = {"limit reading torch": values.sum}
    if device.type == "cpu":
        array = values.numpy()
        ways["limit reading numpy"] = lambda: np.dot(array, array)
    return ways


def reading_rate(timings: Timings, device: "torch.device") -> float:
    """Bytes a second of the fastest reader."""
    names = [name for name in timings.seconds if name.startswith("limit reading ")]
    return BYTES[device.type] / min(timings.median(name) for name in names)


def ideal_seconds(operations: Mapping[str, float], rates: Mapping[str, float]) -> float:
    """Time at the limit of work that mixes precisions.

    Args:
        operations: Floating-point operations by precision.
        rates: What the machine does in a second, by precision.
    """
    return sum(count / rates[precision] for precision, count in operations.items())
