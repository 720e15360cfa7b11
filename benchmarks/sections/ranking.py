"""Ranking: `msclnet.retrieval.ranking.rank` beside the way of the public AGW baseline.

Both start from the same float32 distances. The results must agree to 1e-6 first, or there is no table.

Axes: Q queries, G gallery images.
"""

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.core.limits import reading_rates, reading_ways
from benchmarks.core.ranking_cases import Case, draw_features, regdb_case, sysu_case
from benchmarks.core.result import Row, Section
from benchmarks.core.rows import seconds_row
from benchmarks.core.settings import Settings
from benchmarks.core.target import Target
from benchmarks.core.turns import Timings, in_turns
from benchmarks.textbook.ranking import agw_way
from msclnet.retrieval.distance import unit_distances
from msclnet.retrieval.protocols import same_room
from msclnet.retrieval.ranking import rank

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
    found = [row for row in rows if row.name.startswith("3,803 x 3,010, ours")]
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
        targets=[
            Target(
                "ranking 3,803 x 3,010, times AGW's way",
                found[0].times if found else None,
                TIMES,
                least=True,
                unit="x",
            )
        ],
    )


def measure(case: Case, *, turns: int) -> list[Row]:
    """Check that both ways agree, then time them in turns."""
    import torch

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
    device = torch.device("cpu")
    torch.set_num_threads(1)
    timings = in_turns({**ways, **reading_ways(device)}, turns=turns, warm=True, budget=BUDGET)
    read = sum(d.nbytes for d, _, _ in galleries)
    ideal = [read / rate for rate in reading_rates(timings, device)]
    product = timings.median(PRODUCT)
    share = timings.median(OURS) / (timings.median(OURS) + product)
    renamed = Timings({f"{case.name}, {name}": values for name, values in timings.seconds.items()})
    return [
        seconds_row(f"{case.name}, {AGW}", renamed, reference=f"{case.name}, {AGW}"),
        seconds_row(
            f"{case.name}, {OURS}",
            renamed,
            reference=f"{case.name}, {AGW}",
            ideal=ideal,
            limit="reading",
            note=f"{share:.0%} of ranking and the 2048-wide matrix product together",
        ),
    ]


def largest_difference(expected: list[Result], found: list[Result]) -> float:
    """Over all trials and figures."""
    return max(
        float(np.max(np.abs(np.subtract(x, y))))
        for a, b in zip(expected, found, strict=True)
        for x, y in zip(a, b, strict=True)
    )
