"""Puts the trained network into MLflow's model registry."""

import json
from typing import TYPE_CHECKING

import numpy as np

from msclnet.data.arrays import open_array
from msclnet.data.manifest import read_manifest
from msclnet.data.records import Split
from msclnet.serving import load_embedder
from pipelines import places

if TYPE_CHECKING:
    from msclnet.tracking.run import Tracker

EXAMPLES = 2  # images of each modality in the logged model's example


def register_network(tracker: "Tracker", *, name: str) -> str | None:
    """Log results/train's network with an example of both modalities.

    Args:
        tracker: The run that it belongs to.
        name: Registered model.

    Returns:
        The new version, or None (with a warning) if the server does not answer.
    """
    from msclnet.tracking.model import log_model

    spec = json.loads(places.NETWORK_SPEC.read_text(encoding="utf-8"))
    split: Split = "val" if len(read_manifest(places.MANIFEST, "val")) else "train"
    rows, pixels = read_manifest(places.MANIFEST, split), open_array(places.images_of(split))
    chosen = np.concatenate([np.flatnonzero(rows.infrared == flag)[:EXAMPLES] for flag in (False, True)])
    example = {"images": pixels[chosen], "infrared": rows.infrared[chosen]}
    vectors = load_embedder(places.WEIGHTS, spec)(example["images"], example["infrared"])
    return log_model(
        tracker,
        weights=places.WEIGHTS,
        spec=spec,
        example=example,
        reference_vectors=vectors,
        name=name,
    )
