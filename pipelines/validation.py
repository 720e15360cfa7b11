"""The figures on the validation identities, as training and evaluation both report them."""

import numpy as np

from msclnet.retrieval.exclusion import Exclusion, same_identity_and_camera, same_room
from msclnet.retrieval.protocol import Images
from msclnet.retrieval.validation import validate, validation_protocols

# What a query ignores, as in the data set's own test.
EXCLUSIONS: dict[str, Exclusion | None] = {
    "synthetic": same_room(2, 3),
    "sysu-mm01": same_room(2, 3),
    "regdb": None,
    "llcm": same_identity_and_camera,
}


def validation_figures(
    features: np.ndarray, images: Images, *, feature: str, dataset: str
) -> dict[str, float]:
    """Score (mean of Rank-1 and mAP over both directions) and its parts, in percent.

    Args:
        features: (N, D).
        images: What the N images show.
        feature: The feature's name for reports.
        dataset: Its name in params.yaml, which decides what a query ignores.
    """
    protocols = validation_protocols(images, exclude=EXCLUSIONS[dataset])
    score, reports = validate(features, images, protocols, feature=feature)
    figures = {"score": score}
    for report in reports:
        short = "i2v" if report["direction"].startswith("infrared") else "v2i"
        figures |= {f"{short}_{name}": report[name]["mean"] for name in ("rank1", "mAP")}
    return {name: round(100 * value, 4) for name, value in figures.items()}
