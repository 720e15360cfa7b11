"""The processes that share one run, and the few things that they tell each other."""

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from msclnet.errors import UserError

# How long a process waits for the others: the first one validates, saves and writes while they wait. A process that
# ends is noticed at once, so this only bounds how long one that hangs goes unnoticed.
PATIENCE = timedelta(minutes=30)


@dataclass(frozen=True)
class Processes:
    """This process among those that share the run. One that is alone tells nobody anything.

    Each method but `first` is called by all processes, in the same order.

    Attributes:
        rank: Number of this process, from 0.
        world: Number of processes.
    """

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and talks to the tracking server."""
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
        """(N, ...) of each process, N alike -> all of them in the first process, none in the others."""
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
        """Put the first process's values in the place of `values`."""
        if self.world > 1:
            sent = values.contiguous()  # weights may lie channels last in memory
            dist.broadcast(sent, src=0)
            if sent is not values:
                values.copy_(sent)

    def state_from_first(self, state: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """The first process's state (tensors and plain values) or None; what the others give is not looked at."""
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

    def require_same(self, digest: str, *, what: str) -> None:
        """Compare hexadecimal digits with those of the other processes.

        Args:
            digest: As long in each process.
            what: What it stands for, in a word for the user.

        Raises:
            UserError: In all processes, if one has another digest than the first.
        """
        digests = self.gather(torch.tensor([list(bytes.fromhex(digest))], dtype=torch.uint8))
        others = (digests != digests[0]).any(dim=1).nonzero().flatten().tolist()
        if others:
            raise UserError(
                f"rank {', '.join(map(str, others))} of {self.world} has other {what} than rank 0: give all machines "
                "the same project folder and the same environment"
            )


ALONE = Processes()


@contextmanager
def connected(*, device: torch.device) -> Iterator[Processes]:
    """Meet the processes that were started together, for the length of the block.

    The variables RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT tell who they are, as torchrun sets them. Tensors on the
    CPU travel by gloo, tensors on a GPU by NCCL.

    Args:
        device: Of this process.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    processes = Processes(dist.get_rank(), world)
    yield processes
    # Not after a failure, for then somebody would wait in vain. NCCL wants its end to come for all at the same time.
    processes.add(torch.zeros(1))
    dist.destroy_process_group()
