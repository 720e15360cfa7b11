"""Embedding over several processes: each embeds its share of the images, the first one gets all features."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from msclnet.processes import Processes

Embed = Callable[[Any, np.ndarray], tuple[np.ndarray, np.ndarray]]


def embed_together(
    embed: Embed, images: np.ndarray, infrared: np.ndarray, *, batch: int, processes: Processes
) -> tuple[np.ndarray, np.ndarray] | None:
    """Features of all images, of which each process embeds some.

    The processes share whole batches, the very ones that one process would make: a feature's last digits may depend
    on how many images stand beside it.

    Args:
        embed: msclnet.embedding.embed_images with all but its images and streams given.
        images: uint8 RGB (N, H, W, 3), the same in each process.
        infrared: bool (N,): which stream each image takes.
        batch: Images at a time, as `embed` has it.
        processes: All of them call this.

    Returns:
        Pooled features (N, D) and BNNeck features (N, D), float32, in the first process; None in the others.
    """
    if processes.world == 1:
        return embed(images, infrared)
    shares = [share_of(infrared, batch=batch, rank=i, world=processes.world) for i in range(processes.world)]
    own = shares[processes.rank]
    features = np.concatenate(embed(_Chosen(images, own), infrared[own]), axis=1)
    width = int(
        processes.gather(torch.tensor([features.shape[1]])).max()
    )  # a process without images knows none
    sent = np.zeros((max(map(len, shares)), width), dtype=np.float32)
    sent[: len(own), : features.shape[1]] = features
    parts = processes.gather_to_first(torch.from_numpy(sent))
    if not processes.first:
        return None
    whole = np.empty((len(images), width), dtype=np.float32)
    for rows, part in zip(shares, parts, strict=True):
        whole[rows] = part[: len(rows)].numpy()
    return whole[:, : width // 2].copy(), whole[:, width // 2 :].copy()


def share_of(infrared: np.ndarray, *, batch: int, rank: int, world: int) -> np.ndarray:
    """Rows that a process embeds: every world-th batch of the visible ones, then of the infrared ones.

    Args:
        infrared: bool (N,).
        batch: Images in a batch; only a modality's last one may be smaller.
        rank: The process.
        world: Number of processes.
    """
    batches = []
    for stream in (False, True):
        rows = np.flatnonzero(infrared == stream)
        batches += [rows[start : start + batch] for start in range(0, len(rows), batch)]
    return np.concatenate([np.empty(0, dtype=np.int64), *batches[rank::world]])


class _Chosen:
    """Some rows of a memory map, read when asked for."""

    def __init__(self, images: np.ndarray, rows: np.ndarray) -> None:
        self.images = images
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        return self.images[self.rows[places]]
