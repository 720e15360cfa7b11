"""Interleaved timing, and the limits of the machine.

All ways of doing a thing run in turns, so that a busy moment of the machine slows all of them. A limit (matrix products
by precision, reading memory) is measured in the same turns as what it bounds: the fastest of several libraries.
"""

import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from msclnet.precision import native_bf16
from pipelines import settings

NO_BF16 = "not applicable: no bf16 instructions"
LEAST_SECONDS = 0.1  # of a way in one turn; quicker ones are repeated until they have taken as long
Ways = dict[str, Callable[[], Any]]


@dataclass(frozen=True)
class Settings:
    """How to measure: the options of the command line; `batch` is 0 for the default."""

    quick: bool = False
    compile: bool = False
    batch: int = 0

    @property
    def height(self) -> int:
        """Of the images that networks see; they are half as wide."""
        return 96 if self.quick else 288

    def turns(self, full: int) -> int:
        """How many turns to take the median of."""
        return 2 if self.quick else full


def synchroniser(device: torch.device) -> Callable[[], None]:
    """A function that waits for the device."""
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None


@dataclass(frozen=True)
class Timings:
    """Seconds by way; the i-th value of each was measured in the i-th turn."""

    seconds: Mapping[str, list[float]]

    def median(self, way: str) -> float:
        """Seconds."""
        return statistics.median(self.seconds[way])

    def quartiles(self, way: str) -> tuple[float, float]:
        """First and third quartile in seconds, both inclusive; of one turn both are its value."""
        first, third = np.percentile(self.seconds[way], (25, 75))
        return float(first), float(third)

    def times(self, way: str, reference: str) -> float:
        """How many times as fast a way is as the reference: the median over the turns of the ratio within a turn."""
        return self.share(way, self.seconds[reference])

    def share(self, way: str, ideal: Sequence[float]) -> float:
        """Which share of its time a way would take at best: the median over the turns; `ideal`: seconds, by turn."""
        return statistics.median(best / taken for best, taken in zip(ideal, self.seconds[way], strict=True))


def in_turns(
    ways: Mapping[str, Callable[[], object]],
    *,
    turns: int,
    warm: bool = False,
    budget: float = float("inf"),
    synchronise: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Timings:
    """Time all ways in turns; every second turn goes through them in the opposite order.

    No turn starts that would not end within `budget` seconds, but one turn always runs. Before, each way runs once,
    untimed, unless `warm` says that all have run. `synchronise` waits for what a way has set going on another device.
    """
    started = clock()
    for way in () if warm else ways.values():
        way()
    synchronise()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns):
        before = clock()
        for name in list(ways) if turn % 2 == 0 else reversed(list(ways)):
            calls, start, taken = 0, clock(), 0.0
            while taken < LEAST_SECONDS:
                ways[name]()
                synchronise()
                calls += 1
                taken = clock() - start
            seconds[name].append(taken / calls)
        now = clock()
        if now - started + (now - before) > budget:
            break
    return Timings(seconds)


SIDE = {"cpu": 2048, "cuda": 8192}
BYTES = 2**28  # that are read


def precisions(device: torch.device) -> list[str]:
    """Those that the device computes by its own instructions."""
    return ["fp32", "bf16"] if native_bf16(device) else ["fp32"]


def product_ways(precision: str, device: torch.device) -> Ways:
    """Square matrix products in `fp32` (on a GPU in TF32, as its convolutions) or `bf16`, by each library."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    matrix = torch.rand(SIDE[device.type], SIDE[device.type], device=device).to(dtype)

    def product() -> None:
        former = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
        torch.mm(matrix, matrix)
        torch.backends.cuda.matmul.allow_tf32 = former

    ways: Ways = {f"limit {precision} torch": product}
    if device.type == "cpu" and torch.backends.mkldnn.is_available():
        packed = matrix.to_mkldnn()  # the library of the convolutions; torch.mm does not use it for float32
        ways[f"limit {precision} oneDNN"] = lambda: F.linear(packed, packed)
    if device.type == "cpu" and precision == "fp32":
        array = matrix.numpy()
        ways["limit fp32 numpy"] = lambda: array @ array
    return ways


def product_rates(timings: Timings, precision: str, device: torch.device) -> list[float]:
    """The fastest product's floating-point operations a second, by turn (a multiplication and an addition are two)."""
    return _fastest(timings, f"limit {precision} ", 2 * SIDE[device.type] ** 3)


def with_products(
    ways: Ways, *, device: torch.device, turns: int, budget: float
) -> tuple[Timings, dict[str, list[float]]]:
    """Time ways and products in turns; returns the products' operations a second too, by precision and turn."""
    limits = [product_ways(precision, device) for precision in precisions(device)]
    every = {name: way for some in (ways, *limits) for name, way in some.items()}
    timings = in_turns(every, turns=turns, budget=budget, synchronise=synchroniser(device))
    return timings, {precision: product_rates(timings, precision, device) for precision in precisions(device)}


def reading_ways() -> Ways:
    """Reading much more memory than the caches hold."""
    values = torch.ones(BYTES // 4)
    array = values.numpy()
    return {"limit reading torch": values.sum, "limit reading numpy": lambda: np.dot(array, array)}


def reading_seconds(timings: Timings, amount: float) -> list[float]:
    """Seconds that the fastest reader takes for this many bytes, by turn."""
    return [amount / rate for rate in _fastest(timings, "limit reading ", BYTES)]


def _fastest(timings: Timings, start: str, amount: float) -> list[float]:
    # One library for all turns: the fastest in a single turn may only have been lucky.
    best = min((name for name in timings.seconds if name.startswith(start)), key=timings.median)
    return [amount / seconds for seconds in timings.seconds[best]]


def ideal_seconds(operations: Mapping[str, float], rates: Mapping[str, Sequence[float]]) -> list[float]:
    """Time at the limit, by turn, of operations by precision; `rates`: operations a second, by precision and turn."""
    turns = len(next(iter(rates.values())))
    return [sum(count / rates[precision][i] for precision, count in operations.items()) for i in range(turns)]


def count_operations(work: Callable[[], object], *, precision: str) -> dict[str, float]:
    """Operations of one run, by precision; a multiplication and an addition are two.

    `precision` is that of the convolutions; all other products are float32, as heads and losses always are.
    """
    with FlopCounterMode(display=False) as counter:
        work()
    counts = counter.get_flop_counts()["Global"]
    convolutions = float(sum(n for operator, n in counts.items() if "convolution" in str(operator)))
    operations = {"fp32": float(sum(counts.values())) - convolutions}
    operations[precision] = operations.get(precision, 0.0) + convolutions
    return operations


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Slope of log(seconds) over log(size), by least squares over the larger half of the sizes, at least three.

    Small sizes show fixed costs; what matters is where the cost goes.
    """
    points = sorted(zip(sizes, seconds, strict=True))[-max(3, math.ceil(len(sizes) / 2)) :]
    x, y = np.log(points).T.tolist()
    return statistics.linear_regression(x, y).slope


@contextmanager
def elsewhere(
    make: Callable[..., Callable[[], Any]],
    *,
    device: torch.device,
    keep_memory: bool = False,
    **arguments: Any,
) -> Iterator[Callable[[], Any]]:
    """What `make(device=..., **arguments)` returns in a process of its own, where each call waits for the device.

    `keep_memory`: whether that process keeps the memory that it frees.
    """
    prepared = (make, device, keep_memory, arguments, torch.get_num_threads())
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _prepare, prepared) as pool:
        yield lambda: pool.submit(_call).result()


_function: Callable[[], Any]  # set in the other process alone
_synchronise: Callable[[], None]


def _prepare(
    make: Callable[..., Any], device: torch.device, keep: bool, arguments: dict[str, Any], threads: int
) -> None:
    global _function, _synchronise
    torch.set_num_threads(threads)
    if keep:
        settings.keep_freed_memory()
    _function, _synchronise = make(device=device, **arguments), synchroniser(device)


def _call() -> Any:
    result = _function()
    _synchronise()
    return result


@contextmanager
def textbook_ways(reference: str, make: Callable[..., Callable[[], Any]], **arguments: Any) -> Iterator[Ways]:
    """The textbook's function in a plain process, `reference`, and in one that keeps freed memory; see `elsewhere`."""
    with elsewhere(make, **arguments) as plain, elsewhere(make, keep_memory=True, **arguments) as keeping:
        yield {reference: plain, f"{reference}, memory kept": keeping}
