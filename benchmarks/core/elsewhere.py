"""A function in a process of its own, called from this one.

Ours is timed in a process that is set up as the pipeline's stages are: it keeps the memory that it frees (see
pipelines.settings). A textbook's program would not have that, so it has a process of its own; only one works at a time.
"""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import torch

from benchmarks.core.settings import synchroniser
from pipelines import settings


class Elsewhere:
    """Calls what `make` gives, over there. To be used as a context manager.

    Args:
        make: A function of a module; called once over there with the other arguments.
        device: Where it works; a call waits for the device.
        keep_memory: Whether that process keeps the memory that it frees as well.
        arguments: For `make`, by name.
    """

    def __init__(
        self,
        make: Callable[..., Callable[[], Any]],
        *,
        device: torch.device,
        keep_memory: bool = False,
        **arguments: Any,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(
            target=_serve,
            args=(other, make, device, keep_memory, arguments, torch.get_num_threads()),
            daemon=True,
        )
        self._process.start()
        other.close()

    def __call__(self) -> Any:
        """One call; what it returns must be plain values or arrays.

        Raises:
            RuntimeError: It failed over there.
        """
        try:
            self._connection.send(None)
            return self._connection.recv()
        except (EOFError, OSError) as error:
            self._process.join()
            raise RuntimeError(f"the process elsewhere ended with {self._process.exitcode}") from error

    def __enter__(self) -> "Elsewhere":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._process.terminate()
        self._process.join()


def _serve(
    connection: Connection,
    make: Callable[..., Callable[[], Any]],
    device: torch.device,
    keep_memory: bool,
    arguments: dict[str, Any],
    threads: int,
) -> None:
    torch.set_num_threads(threads)
    if keep_memory:
        settings.keep_freed_memory()
    function, synchronise = make(device=device, **arguments), synchroniser(device)
    while True:
        try:
            connection.recv()
        except EOFError:
            return
        result = function()
        synchronise()
        connection.send(result)
