"""Exact search by gallery size: the whole order, and the nearest images alone.

Axes: Q queries, G gallery images, D feature width.
"""

from collections.abc import Callable

import numpy as np
import torch

from benchmarks.core.limits import product_rates, product_ways, reading_rates, reading_ways
from benchmarks.core.memory import GIB, lacking, peak_bytes
from benchmarks.core.result import Row, Section
from benchmarks.core.rows import rate_row
from benchmarks.core.settings import Settings, device
from benchmarks.core.turns import in_turns
from msclnet.retrieval.distance import nearest, rank_gallery

WIDTH = 2048
QUERIES = 64
NEAREST = 100
SIZES = (10_000, 100_000, 1_000_000)
QUICK_SIZES = (1_000, 10_000)
LARGE = 500_000  # from here on features are kept in half precision
BUDGET = 60.0  # seconds a size
PER_CELL = 40  # bytes that the whole order needs for each query and gallery image
TOLERANCE = 1e-5


def run(settings: Settings) -> Section:
    """Check that both searches agree, then time them in turns, size by size."""
    device()  # as pipelines.search does: threads, and memory that is kept
    rows = [row for size in (QUICK_SIZES if settings.quick else SIZES) for row in measure(size, settings)]
    return Section(
        key="search",
        title="Exact search",
        text=(
            f"{QUERIES} queries of {WIDTH} values at a time, features of any scale. `whole order` is "
            f"`rank_gallery`, `nearest` is `nearest` with {NEAREST} images; where both run, they agree. From "
            f"{LARGE:,} images on the gallery is kept in float16. The limit is the product or reading the gallery "
            "once, whichever takes longer. Memory: what the call takes beside the gallery."
        ),
        rows=rows,
    )


def measure(size: int, settings: Settings) -> list[Row]:
    """One gallery; what lacks memory is said, and not run."""
    dtype = np.dtype(np.float16 if size >= LARGE else np.float32)
    names = (f"{size:,}, whole order", f"{size:,}, nearest, {dtype}")
    stored = float(size * WIDTH * dtype.itemsize)
    if reason := lacking(stored + GIB):
        return [Row(name, note=reason) for name in names]
    gallery_GD, queries_QD = draw(size, dtype)
    copied = size * WIDTH * 4 + size * QUERIES * PER_CELL
    ways: dict[str, Callable[[], object]] = {names[1]: lambda: nearest(queries_QD, gallery_GD, count=NEAREST)}
    reason = lacking(copied)
    if not reason:
        ways = {names[0]: lambda: rank_gallery(queries_QD, gallery_GD), **ways}
        check(rank_gallery(queries_QD, gallery_GD), nearest(queries_QD, gallery_GD, count=NEAREST))
    device = torch.device("cpu")
    timings = in_turns(
        {**ways, **product_ways("fp32", device), **reading_ways(device)},
        turns=settings.turns(5),
        warm=not reason,
        budget=BUDGET,
    )
    products = [2.0 * QUERIES * size * WIDTH / rate for rate in product_rates(timings, "fp32", device)]
    reading = [stored / rate for rate in reading_rates(timings, device)]
    rows = []
    for name in names:
        if name not in ways:
            rows.append(Row(name, note=reason))
            continue
        peak = peak_bytes(ways[name])
        rows.append(
            rate_row(
                name,
                timings,
                per_call=QUERIES,
                unit="queries/s",
                ideal=[max(pair) for pair in zip(products, reading, strict=True)],
                limit="product" if sum(products) > sum(reading) else "reading",
                note=f"{peak / GIB:.2f} GiB beside the gallery's {stored / GIB:.2f} GiB",
            )
        )
    return rows


def draw(size: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """A gallery and queries near some of its images; each block of it is the first one with its values moved."""
    rng = np.random.default_rng(0)
    block_BD = rng.standard_normal((min(size, 10_000), WIDTH), dtype=np.float32)
    gallery_GD = np.empty((size, WIDTH), dtype)
    for number, start in enumerate(range(0, size, len(block_BD))):
        part_GD = gallery_GD[start : start + len(block_BD)]
        part_GD[:] = np.roll(block_BD, number, axis=1)[: len(part_GD)]
    chosen = rng.integers(0, size, QUERIES)
    noise_QD = rng.standard_normal((QUERIES, WIDTH), dtype=np.float32)
    return gallery_GD, gallery_GD[chosen].astype(np.float32) + noise_QD


def check(whole: tuple[np.ndarray, np.ndarray], first: tuple[np.ndarray, np.ndarray]) -> None:
    """Both searches must agree, up to the order of images that are equally similar but for rounding.

    Raises:
        AssertionError: They do not.
    """
    count = first[1].shape[1]
    difference = float(np.abs(whole[1][:, :count] - first[1]).max())
    if not difference <= TOLERANCE:
        raise AssertionError(f"the similarities of both searches differ by {difference}")
    moved = whole[0][:, :count] != first[0]
    gap = np.abs(np.diff(whole[1][:, : count + 1], axis=1))
    near = np.minimum(np.pad(gap, ((0, 0), (1, 0)), constant_values=1)[:, :count], gap[:, :count])
    if (moved & (near > TOLERANCE)).any():
        raise AssertionError("both searches give other images")
