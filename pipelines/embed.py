"""Stage `embed`: every validation and test image once, by its own modality's stream."""

import json

import numpy as np

from msclnet.data.arrays import open_array
from msclnet.data.manifest import read_manifest
from msclnet.embedding import embed_images
from msclnet.errors import UserError
from msclnet.serving import load_network
from pipelines import machine, places
from pipelines.config import Params
from pipelines.outputs import fresh
from pipelines.stage import run_stage

SPLITS = ("val", "test")


def embed(params: Params) -> None:
    """results/train, data/processed -> results/embeddings."""
    device = machine.device()
    if not places.NETWORK_SPEC.is_file():
        raise UserError(f"{places.NETWORK_SPEC}: no such file; run `dvc repro train`")
    spec = json.loads(places.NETWORK_SPEC.read_text(encoding="utf-8"))
    network = load_network(places.WEIGHTS, spec, device=device)
    for split in SPLITS:
        rows = read_manifest(places.MANIFEST, split)
        pooled, bnneck = embed_images(
            network,
            open_array(places.images_of(split)),
            rows.infrared,
            batch=params.embed.batch,
            precision=params.embed.precision,
            flip=params.embed.flip,
            device=device,
            progress=True,
        )
        np.savez(
            fresh(places.embeddings_of(split)),
            pooled=pooled,
            bnneck=bnneck,
            flip=params.embed.flip,
            **vars(rows),
        )


if __name__ == "__main__":
    run_stage(embed)
