"""Ranking: `msclnet.retrieval.ranking.rank` next to the way of the public AGW baseline, from the same distances.

The results must agree to 1e-6 first, or there is no table. Q queries, G gallery images.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.tables import Row, Section, Target, measured_row
from benchmarks.textbook import agw_way
from benchmarks.timing import Settings, in_turns, reading_seconds, reading_ways
from msclnet.retrieval.distance import l2_normalise, unit_distances
from msclnet.retrieval.protocols import same_room
from msclnet.retrieval.ranking import rank

WIDTH = 2048


@dataclass(frozen=True)
class Case:
    """One search: who is asked for, and the galleries of its trials as columns of one distance matrix."""

    name: str
    query_identities: np.ndarray
    query_cameras: np.ndarray
    gallery_identities: np.ndarray
    gallery_cameras: np.ndarray
    trials: list[np.ndarray]
    sysu: bool


def sysu_case(name: str, *, shots: int, trials: int, seed: int = 0) -> Case:
    """SYSU-MM01's all-search in its counts: 96 identities, 3,803 queries, 301 (3,010) gallery images a trial."""
    generator = np.random.default_rng(seed)
    query_cameras = np.repeat([3, 6], [1883, 1920])
    query_identities = np.concatenate([np.sort(np.arange(1883) % 93), np.sort(np.arange(1920) % 96)])
    seen = {1: range(56), 2: range(56), 4: range(94), 5: range(1, 96)}
    pool = [(i, c) for c, identities in seen.items() for i in identities for _ in range(20)]
    identities, cameras = np.array(pool).T
    cells = np.arange(len(pool)).reshape(-1, 20)
    drawn = [generator.permuted(cells, axis=1)[:, :shots].reshape(-1) for _ in range(trials)]
    used, columns = np.unique(np.concatenate(drawn), return_inverse=True)
    galleries = np.split(columns, trials)
    return Case(name, query_identities, query_cameras, identities[used], cameras[used], galleries, sysu=True)


def regdb_case(name: str) -> Case:
    """RegDB: 206 identities with ten images of each modality."""
    identities = np.repeat(np.arange(206), 10)
    cameras = np.ones(2060, np.int64)
    return Case(name, identities, cameras + 1, identities, cameras, [np.arange(2060)], sysu=False)


def draw_features(case: Case, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features as wide as a ResNet-50's, in which identities are found as a middling model finds them."""
    generator = np.random.default_rng(seed)
    people = generator.standard_normal((256, WIDTH), dtype=np.float32) * np.float32(0.22)
    sides = [
        people[identities] + generator.standard_normal((len(identities), WIDTH), dtype=np.float32)
        for identities in (case.query_identities, case.gallery_identities)
    ]
    return l2_normalise(sides[0]), l2_normalise(sides[1])


TOLERANCE = 1e-6
BUDGET = 60.0  # seconds a case
TIMES = 90.0
AGW, OURS, PRODUCT = "AGW", "ours", "distances"
Result = tuple[np.ndarray, float, float]


def run(settings: Settings) -> Section:
    """Measure all cases, on one thread."""
    cases = [regdb_case("2,060 x 2,060")]
    if not settings.quick:
        cases += [
            sysu_case("3,803 x 301, ten trials", shots=1, trials=10),
            sysu_case("3,803 x 3,010", shots=10, trials=1),
        ]
    with threadpool_limits(1):
        rows = [row for case in cases for row in measure(case, turns=settings.turns(3))]
    times = {row.name: row.times for row in rows}.get(f"3,803 x 3,010, {OURS}")
    return Section(
        key="ranking",
        title="Ranking",
        text=(
            "From distances to CMC, mAP and mINP, one thread, queries x gallery. AGW's way is one argsort of the "
            f"matrix, then a Python loop over the queries. Both agree to {TOLERANCE:g}. The limit is reading the "
            "distances once."
        ),
        reference="AGW's way on the same distances",
        rows=rows,
        targets=[Target("ranking 3,803 x 3,010, times AGW's way", times, TIMES, least=True, unit="x")],
    )


def measure(case: Case, *, turns: int) -> list[Row]:
    """Check that both ways agree, then time them in turns."""
    queries_QD, gallery_GD = draw_features(case)
    distances_QG = unit_distances(queries_QD, gallery_GD)
    galleries = [
        (np.take(distances_QG, g, axis=1), case.gallery_identities[g], case.gallery_cameras[g])
        for g in case.trials
    ]

    def agw(*, stable: bool = False) -> list[Result]:
        return [
            agw_way(d, case.query_identities, i, case.query_cameras, c, sysu=case.sysu, stable=stable)
            for d, i, c in galleries
        ]

    def ours() -> list[Result]:
        results = [
            rank(
                d,
                case.query_identities,
                i,
                query_cameras=case.query_cameras,
                gallery_cameras=c,
                exclude=same_room(2, 3) if case.sysu else None,
                cmc_by_identity=case.sysu,
            )
            for d, i, c in galleries
        ]
        return [(result.cmc, result.mAP, result.mINP) for result in results]

    difference = largest_difference(agw(stable=True), ours())
    if not difference <= TOLERANCE:
        raise AssertionError(f"{case.name}: the results differ by {difference}")
    ways = {AGW: agw, OURS: ours, PRODUCT: lambda: unit_distances(queries_QD, gallery_GD)}
    torch.set_num_threads(1)
    timings = in_turns({**ways, **reading_ways()}, turns=turns, warm=True, budget=BUDGET)
    ideal = reading_seconds(timings, sum(d.nbytes for d, _, _ in galleries))
    share = timings.median(OURS) / (timings.median(OURS) + timings.median(PRODUCT))
    note = f"{share:.0%} of ranking and the 2048-wide matrix product together"
    rows = [
        measured_row(AGW, timings, reference=AGW),
        measured_row(OURS, timings, reference=AGW, ideal=ideal, limit="reading", note=note),
    ]
    return [replace(row, name=f"{case.name}, {row.name}") for row in rows]


def largest_difference(expected: list[Result], found: list[Result]) -> float:
    """Over all trials and figures."""
    pairs = ((x, y) for trial in zip(expected, found, strict=True) for x, y in zip(*trial, strict=True))
    return max(float(np.max(np.abs(np.subtract(x, y)))) for x, y in pairs)
