"""Several processes that meet by gloo, as under torchrun, without paying for another import of torch."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from forked import Forked
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from msclnet.distributed import Processes, connected

CPU = torch.device("cpu")


def together(world: int, folder: Path, work: Callable[[Processes], Any]) -> list[Any]:
    """What `work` returns in each of `world` forked processes, in the order of ranks.

    Args:
        world: How many.
        folder: An empty one, for what they return.
        work: Called in each process.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    host, port = store.host, str(store.port)
    folder.mkdir(parents=True, exist_ok=True)

    def run(rank: int) -> None:
        os.environ |= {
            "RANK": str(rank),
            "WORLD_SIZE": str(world),
            "LOCAL_RANK": str(rank),
            "LOCAL_WORLD_SIZE": str(world),
            "MASTER_ADDR": host,
            "MASTER_PORT": port,
            "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store is ours, not rank 0's
            "GLOO_SOCKET_IFNAME": "lo",
        }
        with connected(device=CPU) as processes:
            result = work(processes)
        (folder / str(rank)).write_bytes(pickle.dumps(result))

    children = [Forked(lambda _, rank=rank: run(rank)) for rank in range(world)]
    assert [child.wait() for child in children] == [0] * world
    del store  # not earlier: the processes use it
    return [pickle.loads((folder / str(rank)).read_bytes()) for rank in range(world)]
