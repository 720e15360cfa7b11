"""Stage `embed`: every validation and test image once, by its own modality's stream."""

import json
from functools import partial

import numpy as np

from msclnet.data.arrays import open_array
from msclnet.data.manifest import read_manifest
from msclnet.data.records import Split
from msclnet.embedding import embed_streams
from msclnet.errors import UserError
from msclnet.inference.backends import build_embedder
from msclnet.processes import ALONE, Processes
from msclnet.serving import load_network
from msclnet.shared_embedding import embed_together
from pipelines import machine, places
from pipelines.config import Params
from pipelines.outputs import fresh
from pipelines.parallel import run_parallel_stage

SPLITS: tuple[Split, ...] = ("val", "test")


def embed(params: Params, processes: Processes = ALONE) -> None:
    """results/train, data/processed -> results/embeddings; each process embeds its share, the first one writes."""
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
    embed_some = partial(
        embed_streams, embedder, batch=settings.batch, flip=settings.flip, progress=processes.first
    )
    for split, images in arrays.items():
        rows = read_manifest(places.MANIFEST, split)
        features = embed_together(
            embed_some, images, rows.infrared, batch=settings.batch, processes=processes
        )
        if features is not None:
            pooled, bnneck = features
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
    run_parallel_stage(embed, ("-m", "pipelines.embed"))
