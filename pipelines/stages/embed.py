"""Stage `embed`: every validation and test image once, by its own modality's stream."""

from functools import partial

import numpy as np
import torch

from msclnet.datasets.records import Split
from msclnet.distributed import connected, embed_together
from msclnet.embedding import embed_streams, load_network
from msclnet.errors import memory_errors_explained
from msclnet.export.backends import build_embedder
from msclnet.images.table import open_array, read_splits
from msclnet.precision import choose_precision
from pipelines import settings
from pipelines.stages import paths
from pipelines.stages.config import Params
from pipelines.stages.paths import fresh
from pipelines.stages.stage import run_stage

SPLITS: tuple[Split, ...] = ("val", "test")
MEMORY_REMEDY = "make embed.batch smaller, or embed on a machine or GPU with more"


def embed(params: Params) -> None:
    """results/train, data/processed -> results/embeddings; each process embeds its share, rank 0 writes."""
    device = settings.device()
    spec = paths.read_json(paths.NETWORK_SPEC, stage="train")
    network = load_network(paths.WEIGHTS, spec, device=device)
    arrays: dict[Split, np.ndarray] = {split: open_array(paths.images_of(split)) for split in SPLITS}
    height, width = arrays["test"].shape[1:3]
    rows = read_splits(paths.MANIFEST)
    # The split travels with the embeddings: params.yaml may name another one by the time they are scored.
    labels = {"regdb_split": params.preprocess.regdb_split} if params.download.dataset == "regdb" else {}
    with connected(device=device) as processes, memory_errors_explained(MEMORY_REMEDY):
        computing = device if params.embed.backend != "openvino" else torch.device("cpu")
        precision = choose_precision(
            params.embed.precision, computing, key="embed.precision", warn=processes.first
        )
        processes.require_same(precision.encode().hex(), description="a precision (embed.precision: auto)")
        embedder = build_embedder(
            network,
            backend=params.embed.backend,
            precision=precision,
            height=height,
            width=width,
            device=device,
        )
        for split, images in arrays.items():
            features = embed_together(
                partial(
                    embed_streams,
                    embedder,
                    batch=params.embed.batch,
                    flip=params.embed.flip,
                    progress=processes.first,
                ),
                images,
                rows[split].infrared,
                batch=params.embed.batch,
                processes=processes,
            )
            if features is not None:
                pooled, bnneck = features
                np.savez(
                    fresh(paths.embeddings_of(split)),
                    pooled=pooled,
                    bnneck=bnneck,
                    flip=params.embed.flip,
                    backend=params.embed.backend,
                    precision=precision,
                    **labels,
                    **vars(rows[split]),
                )


if __name__ == "__main__":
    run_stage(embed, parallel=True)
