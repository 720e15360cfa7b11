"""Collective operations of a run, a thin layer over torch.distributed: training and embedding over several processes.

Every process has whole identities of the batch. Their features are put together, and each process computes all
losses on them, so that triplets, centres and pairs of identities are those of one process with the whole batch. Of
the gathered rows only a process's own carry a gradient, so that the *sum* of the processes' gradients is the gradient
of the whole batch: every row is counted once. (torch's DistributedDataParallel averages, which fits a gather whose
backward pass adds up the processes' equal losses.)

DistributedDataParallel is not used: it would give parameters that no loss reaches a gradient of zeros, which weight
decay then moves, or refuse them. What it offers beyond a plain sum, hiding the transfer behind the backward pass, saves
little where a process's share of 64 images takes milliseconds.
"""

import dataclasses
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from msclnet.errors import UserError
from msclnet.features import Features, PairLabels

# How long a process waits for the others, while rank 0 validates, saves and writes. The end of a process is detected at
# once: this only bounds how long one that hangs goes undetected.
TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class Processes:
    """This process among those that share the run. With world size 1 all operations are no-ops.

    Each method but `first` is called by all processes, in the same order.
    """

    rank: int = 0  # from 0
    world: int = 1  # number of processes

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which alone writes files and logs."""
        return self.rank == 0

    def gather(self, rows: Tensor) -> Tensor:
        """(N, ...) of each process, N alike -> (world * N, ...) in the order of ranks, without gradient."""
        if self.world == 1:
            return rows.detach()
        rows = rows.detach().contiguous()
        whole = rows.new_empty((self.world * len(rows), *rows.shape[1:]))
        dist.all_gather_into_tensor(whole, rows)
        return whole

    def gather_to_first(self, rows: Tensor) -> list[Tensor]:
        """(N, ...) of each process, N alike -> all of them in rank 0, none in the others."""
        if self.world == 1:
            return [rows]
        parts = [torch.empty_like(rows) for _ in range(self.world)] if self.first else None
        dist.gather(rows, parts, dst=0)
        return parts or []

    def add(self, values: Tensor) -> None:
        """Put the sum over the processes in the place of `values`; all processes get the same bits."""
        if self.world > 1:
            dist.all_reduce(values)

    def copy_from_first(self, values: Tensor) -> None:
        """Put rank 0's values in the place of `values`."""
        if self.world > 1:
            sent = values.contiguous()  # weights may lie channels last in memory
            dist.broadcast(sent, src=0)
            if sent is not values:
                values.copy_(sent)

    def state_from_first(self, state: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """Rank 0's state (tensors and plain values) or None, whatever the others give."""
        if self.world == 1:
            return state
        body = torch.empty(0, dtype=torch.uint8)
        if self.first and state is not None:
            buffer = io.BytesIO()
            torch.save(state, buffer)
            body = torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8)
        size = torch.tensor(len(body))
        self.copy_from_first(size)
        if not size.item():
            return None
        if not self.first:
            body = torch.empty(int(size), dtype=torch.uint8)
        self.copy_from_first(body)
        return state if self.first else torch.load(io.BytesIO(body.numpy().tobytes()), weights_only=True)

    def require_same(self, digest: str, *, description: str) -> None:
        """Raise a UserError in all processes if one has another digest (hexadecimal) than rank 0."""
        digests = self.gather(torch.tensor([list(bytes.fromhex(digest))], dtype=torch.uint8))
        others = (digests != digests[0]).any(dim=1).nonzero().flatten().tolist()
        if others:
            raise UserError(
                f"rank {', '.join(map(str, others))} of {self.world} has other {description} than rank 0: give all "
                "machines the same project folder and the same environment"
            )


ALONE = Processes()


@contextmanager
def connected(*, device: torch.device) -> Iterator[Processes]:
    """Meet the processes that torchrun started together, for the length of the block.

    Tensors on the CPU travel by gloo, those on a GPU by NCCL.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    processes = Processes(dist.get_rank(), world)
    yield processes
    # Not after a failure: the others may never come here. NCCL must be shut down by all at the same time.
    processes.add(torch.zeros(1))
    dist.destroy_process_group()


BUCKET = 16 * 2**20  # gradients that are added at a time: few transfers, little memory

Record = TypeVar("Record")


def gather_batch(features: Features, labels: PairLabels, processes: Processes) -> tuple[Features, PairLabels]:
    """Features and labels of the whole batch's world * N pairs, from each process's N pairs, in the order of ranks.

    Only this process's rows carry a gradient. The maps stay this process's own: they are large, and no loss uses them.
    """
    if processes.world == 1:
        return features, labels
    streams = (features.visible, features.infrared, features.synergy)
    tensors = {id(t): t for stream in streams if stream is not None for t in _tensors(stream)}
    # Everything in one transfer.
    packed = processes.gather(torch.cat([t.detach().flatten(1) for t in tensors.values()], dim=1))
    pieces = packed.split([t[0].numel() for t in tensors.values()], dim=1)
    whole = {
        key: _with_own_rows(piece.unflatten(1, t.shape[1:]), t, rank=processes.rank)
        for (key, t), piece in zip(tensors.items(), pieces, strict=True)
    }
    everyone = processes.gather(torch.stack([*_tensors(labels)], dim=1))
    identities, cameras_visible, cameras_infrared = everyone.unbind(dim=1)
    return (
        Features(
            maps=features.maps,
            visible=_replaced(features.visible, whole),
            infrared=_replaced(features.infrared, whole),
            synergy=None if features.synergy is None else _replaced(features.synergy, whole),
        ),
        PairLabels(identities, cameras_visible, cameras_infrared),
    )


def add_gradients(network: nn.Module, processes: Processes) -> None:
    """Put the sum over the processes in the place of each parameter's gradient; what has none stays without."""
    if processes.world == 1:
        return
    for bucket in _buckets([p.grad for p in network.parameters() if p.grad is not None]):
        flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
        processes.add(flat)
        totals = flat.split([gradient.numel() for gradient in bucket])
        for gradient, total in zip(bucket, totals, strict=True):
            gradient.copy_(total.view(gradient.shape))


def join_norms(norms: Mapping[str, float], processes: Processes) -> dict[str, float]:
    """Norms of vectors of which each process holds some rows, from the norms of these rows."""
    if processes.world == 1:
        return dict(norms)
    squares = torch.tensor(list(norms.values()), dtype=torch.float64).square()
    processes.add(squares)
    return dict(zip(norms, squares.sqrt().tolist(), strict=True))


def average_statistics(network: nn.Module, processes: Processes) -> None:
    """Give all processes the mean of their batch norms' running statistics; synchronised ones are equal already."""
    if processes.world == 1:
        return
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for statistics in (module.running_mean, module.running_var):
                if statistics is not None:
                    processes.add(statistics)
                    statistics /= processes.world


def copy_weights_from_first(network: nn.Module, processes: Processes) -> None:
    """Give all processes rank 0's weights."""
    for value in network.state_dict().values():
        processes.copy_from_first(value)


def synchronise_batch_norm(network: nn.Module, *, device: torch.device) -> None:
    """Let batch norms take their statistics from all processes' images; UserError without a GPU."""
    if device.type != "cuda":
        raise UserError(
            "train.sync_batch_norm is true, but torch synchronises batch norm on GPUs only and this is the "
            f"{device.type}: set it to false, or train in one process (MSCLNET_PROCESSES=1), where it changes nothing"
        )
    nn.SyncBatchNorm.convert_sync_batchnorm(network)


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for tensor in tensors:
        bucket.append(tensor)
        if sum(each.numel() for each in bucket) >= BUCKET:
            yield bucket
            bucket = []
    if bucket:
        yield bucket


def _tensors(record: Any) -> list[Tensor]:
    values = (getattr(record, field.name) for field in dataclasses.fields(record))
    return [value for value in values if isinstance(value, Tensor)]


def _with_own_rows(gathered: Tensor, own: Tensor, *, rank: int) -> Tensor:
    """The gathered rows with this process's own put in their place, through which the gradient flows."""
    before, after = rank * len(own), (rank + 1) * len(own)
    return torch.cat([gathered[:before], own, gathered[after:]])


def _replaced(record: Record, whole: Mapping[int, Tensor]) -> Record:
    values: dict[str, Any] = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}  # pyright: ignore[reportArgumentType]
    return type(record)(**{name: None if t is None else whole[id(t)] for name, t in values.items()})


Embed = Callable[[Any, np.ndarray], tuple[np.ndarray, np.ndarray]]


def embed_together(
    embed: Embed, images: np.ndarray, infrared: np.ndarray, *, batch: int, processes: Processes
) -> tuple[np.ndarray, np.ndarray] | None:
    """Features of all images, of which each process embeds some.

    The processes share whole batches, the same as those of one process: a feature's last digits may depend on how many
    images are next to it.

    Args:
        embed: msclnet.embedding.embed_images with all but its images and streams given, `batch` images at a time.
        images, infrared: uint8 RGB (N, H, W, 3) and bool (N,), the same in each process.

    Returns:
        Pooled and BNNeck features (N, D), float32, in rank 0; None in the others.
    """
    if processes.world == 1:
        return embed(images, infrared)
    shares = [share_of(infrared, batch=batch, rank=i, world=processes.world) for i in range(processes.world)]
    own = shares[processes.rank]
    features = np.concatenate(embed(_Chosen(images, own), infrared[own]), axis=1)
    # A process without images has no feature to take the width from.
    width = int(processes.gather(torch.tensor([features.shape[1]])).max())
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
    """Rows that a process embeds: every world-th batch of the visible ones, then of the infrared ones; bool (N,)."""
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
