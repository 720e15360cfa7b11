"""One training over several processes: each computes its share of the batch, all losses see the whole.

Every process has whole identities of the batch. Their features are put together, and each process computes all
losses on them, so that triplets, centres and pairs of identities are those of one process with the whole batch. Of the
gathered rows only a process's own carry a gradient. The gradient that it gets is then the part of the whole one that
goes through its own images, and the *sum* over the processes is the gradient of the whole batch: every row is counted
once. (Averaging, as torch's DistributedDataParallel does, fits a gather whose backward pass adds up the processes'
equal losses: it multiplies by their number what averaging then divides, and sends the features' gradients for it.)

DistributedDataParallel is not used: it would give parameters that no loss reaches a gradient of zeros, which weight
decay then moves, or refuse them. What it offers beyond a plain sum, hiding the transfer behind the backward pass, saves
little where a process's share of 64 images takes milliseconds.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from msclnet.errors import UserError
from msclnet.features import Features, PairLabels
from msclnet.processes import Processes

BUCKET = 16 * 2**20  # gradients that are added at a time: few transfers, little memory

Record = TypeVar("Record")


def gather_batch(features: Features, labels: PairLabels, processes: Processes) -> tuple[Features, PairLabels]:
    """The whole batch's features and labels, rows in the order that one process would have.

    Args:
        features: Of this process's N pairs.
        labels: Of the same.
        processes: Each with as many pairs.

    Returns:
        Features of world * N pairs, in which only this process's rows carry a gradient, and their labels. The maps
        stay this process's own: they are large, and no loss looks at them.
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
    """Put the sum over the processes in the place of each parameter's gradient.

    A parameter without a gradient, which it then lacks in all processes, stays without.
    """
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


def same_start(network: nn.Module, processes: Processes) -> None:
    """Give all processes the first one's weights."""
    for value in network.state_dict().values():
        processes.copy_from_first(value)


def synchronise_batch_norm(network: nn.Module, *, device: torch.device) -> None:
    """Let batch norms take their statistics from all processes' images in training.

    Raises:
        UserError: The device is no GPU; torch has it nowhere else.
    """
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
