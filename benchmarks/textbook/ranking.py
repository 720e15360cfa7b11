"""Ranking in the way of the public AGW baseline."""

import numpy as np


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
