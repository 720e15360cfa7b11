"""Ranking speed: `msclnet.retrieval.ranking.rank` beside the way of the public AGW baseline.

`python -m benchmarks.ranking` prints a table. Both start from the same float32 distances; the two are timed in
turns on one thread and their medians compared. The results must agree to 1e-6 first, or there is no table.

Axes: Q queries, G gallery images, D feature width.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from msclnet.retrieval.distance import l2_normalise, unit_distances
from msclnet.retrieval.exclusion import same_room
from msclnet.retrieval.ranking import rank

WIDTH = 2048
TOLERANCE = 1e-6
OURS_PER_TURN = 5


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


def agw_way(
    distances_QG: np.ndarray,
    query_identities: np.ndarray,
    gallery_identities: np.ndarray,
    query_cameras: np.ndarray,
    gallery_cameras: np.ndarray,
    *,
    sysu: bool,
    stable: bool = False,
) -> tuple[np.ndarray, float, float]:
    """One argsort of the whole matrix, then a Python loop over the queries.

    `stable` decides ties as `rank` does, to compare results; the timed way leaves them to the default sort.
    """
    order_QG = np.argsort(distances_QG, axis=1, kind="stable" if stable else None)
    sorted_QG = gallery_identities[order_QG]
    matches_QG = (sorted_QG == query_identities[:, None]).astype(np.int32)
    curves, precisions, penalties = [], [], []
    for q in range(len(distances_QG)):
        cameras = gallery_cameras[order_QG[q]]
        kept = np.invert((query_cameras[q] == 3) & (cameras == 2)) if sysu else np.ones(len(cameras), bool)
        match = matches_QG[q][kept]
        if not np.any(match):
            continue
        found = match.cumsum()
        last = np.where(match == 1)[0].max()
        penalties.append(found[last] / (last + 1.0))
        listed = match
        if sysu:
            identities = sorted_QG[q][kept]
            firsts = np.unique(identities, return_index=True)[1]
            unique = np.array([identities[i] for i in sorted(firsts)])
            listed = (unique == query_identities[q]).astype(np.int32)
        curve = np.ones(20)
        head = listed.cumsum()[:20]
        curve[: len(head)] = np.minimum(head, 1)
        curves.append(curve)
        precision = np.asarray([x / (i + 1.0) for i, x in enumerate(found)]) * match
        precisions.append(precision.sum() / match.sum())
    return np.mean(curves, axis=0), float(np.mean(precisions)), float(np.mean(penalties))


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
    return Case(
        name,
        query_identities,
        query_cameras,
        identities[used],
        cameras[used],
        np.split(columns, trials),
        sysu=True,
    )


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


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(case: Case, *, repeats: int) -> dict[str, Any]:
    """Check that both ways agree, then time them in turns."""
    queries_QD, gallery_GD = draw_features(case)
    distances_QG = unit_distances(queries_QD, gallery_GD)
    galleries = [
        (np.take(distances_QG, g, axis=1), case.gallery_identities[g], case.gallery_cameras[g])
        for g in case.trials
    ]

    def agw(*, stable: bool = False) -> list[tuple[np.ndarray, float, float]]:
        return [
            agw_way(d, case.query_identities, i, case.query_cameras, c, sysu=case.sysu, stable=stable)
            for d, i, c in galleries
        ]

    def ours() -> list[tuple[np.ndarray, float, float]]:
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

    expected, results = agw(stable=True), ours()
    difference = max(
        float(np.max(np.abs(np.subtract(x, y))))
        for a, b in zip(expected, results, strict=True)
        for x, y in zip(a, b, strict=True)
    )
    if difference > TOLERANCE:
        raise AssertionError(f"{case.name}: the results differ by {difference}")
    times: dict[str, list[float]] = {"agw": [], "ours": [], "matmul": []}
    for _ in range(repeats):
        times["agw"].append(seconds(agw))
        for _ in range(OURS_PER_TURN):
            times["ours"].append(seconds(ours))
            times["matmul"].append(seconds(lambda: unit_distances(queries_QD, gallery_GD)))
    median = {name: statistics.median(values) for name, values in times.items()}
    return {
        "case": case.name,
        "agw_s": median["agw"],
        "ours_s": median["ours"],
        "times_agw": median["agw"] / median["ours"],
        "matmul_s": median["matmul"],
        "ranking_share": median["ours"] / (median["ours"] + median["matmul"]),
        "difference": difference,
        "rank1": float(results[0][0][0]),
    }


def run(*, repeats: int = 3) -> list[dict[str, Any]]:
    """Measure all cases.

    Args:
        repeats: Turns; in each AGW's way runs once and ours, with the matrix product, five times.

    Returns:
        One row a case: medians in seconds, `times_agw` (how many times as fast), `matmul_s` (distances of all
        gallery images that any trial uses, 2,048 wide, float32), `ranking_share` (of both together),
        `difference` (largest between the two results) and the first trial's `rank1`.
    """
    cases = [
        sysu_case("3,803 x 301, ten trials", shots=1, trials=10),
        sysu_case("3,803 x 3,010", shots=10, trials=1),
        regdb_case("2,060 x 2,060"),
    ]
    return [measure(case, repeats=repeats) for case in cases]


def main() -> None:
    from threadpoolctl import threadpool_limits

    parser = argparse.ArgumentParser(description="Ranking speed beside the public baseline's way.")
    parser.add_argument("--repeats", type=int, default=3, help="turns to take the median of (default 3)")
    arguments = parser.parse_args()
    with threadpool_limits(1):
        rows = run(repeats=arguments.repeats)
    print(
        f"{'case':26}{'AGW s':>9}{'ours s':>9}{'ratio':>8}{'matmul s':>10}{'ranking share':>15}{'Rank-1':>8}"
    )
    for row in rows:
        print(
            f"{row['case']:26}{row['agw_s']:9.3f}{row['ours_s']:9.3f}{row['times_agw']:7.0f}x"
            f"{row['matmul_s']:10.3f}{row['ranking_share']:15.0%}{row['rank1']:8.2f}"
        )


if __name__ == "__main__":
    main()
