"""Whether two ways of computing features agree: a fast way to a wrong result is worth nothing."""

import numpy as np

LEAST = {"fp32": 0.9999, "bf16": 0.7}  # of `agreement`, by the precision of the way that is checked


def agreement(expected_ND: np.ndarray, found_ND: np.ndarray) -> float:
    """The lowest cosine between an image's two features, each less the mean over the images.

    Untrained networks give all images nearly the same feature; what tells images apart is what must agree.
    """
    centred = [
        np.asarray(x, np.float64) - np.mean(x, axis=0, dtype=np.float64) for x in (expected_ND, found_ND)
    ]
    products = (centred[0] * centred[1]).sum(axis=1)
    return float((products / np.prod([np.linalg.norm(x, axis=1) for x in centred], axis=0)).min())


def check(name: str, precision: str, expected_ND: np.ndarray, found_ND: np.ndarray) -> float:
    """The agreement.

    Raises:
        AssertionError: It is too low.
    """
    value = agreement(expected_ND, found_ND)
    if not value >= LEAST[precision]:
        raise AssertionError(f"{name}: features agree to {value:.5f} only, {LEAST[precision]} is asked for")
    return value
