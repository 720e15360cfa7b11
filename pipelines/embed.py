"""Stage `embed`: every validation and test image once, by its own modality's stream."""

import json

import numpy as np

from msclnet.data.arrays import open_array
from msclnet.data.manifest import read_manifest
from msclnet.data.records import Split
from msclnet.embedding import embed_streams
from msclnet.errors import UserError
from msclnet.inference.backends import build_embedder
from msclnet.serving import load_network
from pipelines import machine, places
from pipelines.config import Params
from pipelines.outputs import fresh
from pipelines.stage import run_stage

SPLITS: tuple[Split, ...] = ("val", "test")


def embed(params: Params) -> None:
    """results/train, data/processed -> results/embeddings."""
    device = machine.device()
    if not places.NETWORK_SPEC.is_file():
        raise UserError(f"{places.NETWORK_SPEC}: no such file; run `dvc repro train`")
    spec = json.loads(places.NETWORK_SPEC.read_text(encoding="utf-8"))
    network = load_network(places.WEIGHTS, spec, device=device)
    settings = params.embed
    arrays: dict[Split, np.ndarray] = {split: open_array(places.images_of(split)) for split in SPLITS}
    height, width = arrays["test"].shape[1:3]
    embedder = build_embedder(
        network,
        backend=settings.backend,
        precision=settings.precision,
        height=height,
        width=width,
        device=device,
    )
    for split, images in arrays.items():
        rows = read_manifest(places.MANIFEST, split)
        pooled, bnneck = embed_streams(
            embedder, images, rows.infrared, batch=settings.batch, flip=settings.flip, progress=True
        )
        np.savez(
            fresh(places.embeddings_of(split)),
            pooled=pooled,
            bnneck=bnneck,
            flip=settings.flip,
            backend=settings.backend,
            precision=settings.precision,
            **vars(rows),
        )


if __name__ == "__main__":
    run_stage(embed)
