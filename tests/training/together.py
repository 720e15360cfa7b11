"""Several processes that meet by gloo, as under torchrun, without paying for another import of torch."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from forked import Forked

from msclnet.distributed import Processes, connected
from pipelines.stages.launch import environment_of, meeting_point

CPU = torch.device("cpu")


def together(world: int, folder: Path, work: Callable[[Processes], Any]) -> list[Any]:
    """What `work` returns in each of `world` forked processes, in the order of ranks.

    Args:
        world: How many.
        folder: An empty one, for what they return.
        work: Called in each process.
    """
    store, address = meeting_point()
    folder.mkdir(parents=True, exist_ok=True)

    def run(rank: int) -> None:
        os.environ |= environment_of(rank, world=world, address=address)
        with connected(device=CPU) as processes:
            result = work(processes)
        (folder / str(rank)).write_bytes(pickle.dumps(result))

    children = [Forked(lambda _, rank=rank: run(rank)) for rank in range(world)]
    assert [child.wait() for child in children] == [0] * world
    del store
    return [pickle.loads((folder / str(rank)).read_bytes()) for rank in range(world)]
