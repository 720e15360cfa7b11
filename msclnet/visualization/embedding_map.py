"""Features in the plane by t-SNE, of a few identities (paper, Fig. 5 a, b).

Legend: N images, D feature channels.
"""

import numpy as np

from msclnet.visualization.distances import l2_normalise

FEWEST_POINTS = 4


def pick_identities(identities_N: np.ndarray, infrared_N: np.ndarray, *, count: int, seed: int) -> np.ndarray:
    """Draw identities that were seen in both modalities.

    Args:
        identities_N: (N,).
        infrared_N: bool (N,).
        count: How many, >= 1; fewer are returned when fewer were seen in both.
        seed: Of the draw.

    Returns:
        Sorted identities, at most count.

    Raises:
        ValueError: If count < 1 or no identity was seen in both modalities.
    """
    infrared_N = np.asarray(infrared_N, bool)
    both = np.intersect1d(np.asarray(identities_N)[infrared_N], np.asarray(identities_N)[~infrared_N])
    if count < 1:
        raise ValueError(f"count is at least 1, not {count}")
    if not len(both):
        raise ValueError("no identity was seen in both modalities")
    return np.sort(np.random.default_rng(seed).permutation(both)[:count])


def tsne(features_ND: np.ndarray, *, seed: int, perplexity: float = 30.0) -> np.ndarray:
    """Place features in the plane by t-SNE on their L2-normalised Euclidean distance.

    It runs on one thread, for with several the order of sums, and so the last digits, may change. A
    perplexity that is too large for the number of points is lowered to (N - 1) / 3. Features that all
    coincide are all placed at the origin, where t-SNE itself would give NaN.

    Args:
        features_ND: (N, D), N >= 4, D >= 2.
        seed: Of scikit-learn's solver. The start is the principal components, so other seeds change little.
        perplexity: About how many neighbours count, > 0.

    Returns:
        float32 (N, 2); the axes have no unit and no meaning of their own.

    Raises:
        ValueError: If there are fewer than 4 points or 2 channels, or a value is not finite.
    """
    features_ND = l2_normalise(features_ND)
    points, channels = features_ND.shape
    if points < FEWEST_POINTS or channels < 2:
        raise ValueError(
            f"t-SNE needs at least {FEWEST_POINTS} points of 2 channels, not {points} of {channels}"
        )
    if np.ptp(features_ND, axis=0).max() == 0:
        return np.zeros((points, 2), np.float32)

    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        model = TSNE(
            perplexity=min(perplexity, (points - 1) / 3),
            init="pca",
            learning_rate="auto",
            random_state=seed,
            n_jobs=1,
        )
        return model.fit_transform(features_ND).astype(np.float32)
