"""Starts the processes of a stage on this machine, and ends all of them when one fails."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipelines import settings
from pipelines.stages.stage import USER_MISTAKE

Child = subprocess.Popen[bytes]

POLL_SECONDS = 0.1
# That another process is lost, and to tell the tracking server. One that was killed is lost only when its data loader's
# processes, which share its connections, have noticed as well: torch lets them look every five seconds.
SECONDS_TO_NOTICE = 10.0
SECONDS_TO_END = 15.0  # after a signal; whoever sent it to us may kill after 20
DEFECT = 1


def launch(command: Sequence[str], *, processes: int) -> None:
    """Run a Python program in several processes, which meet as under `torchrun --nproc-per-node`.

    torchrun itself does it for several machines. On one machine it would do without a reason what a user does not want:
    its meeting point listens on all of the machine's addresses, a failure is a page of text, and a process that has to
    end because of another one gets no time to say so to the tracking server.

    Args:
        command: What follows `python`, such as `-m pipelines.stages.train`.
        processes: How many.

    Raises:
        SystemExit: One failed, and the others were ended. Its error has been printed, with its rank: exit code 2 for a
            mistake that the user can repair, 1 for a defect. After SIGTERM or Ctrl-C: 143 or 130, once all have ended.
    """
    store, address = meeting_point()
    with tempfile.TemporaryDirectory(prefix="msclnet-") as folder:
        told = [Path(folder) / f"{rank}.json" for rank in range(processes)]
        children: list[Child] = []
        try:
            for rank, file in enumerate(told):
                environment = environment_of(rank, world=processes, address=address)
                children.append(_start(command, environment | {"TORCHELASTIC_ERROR_FILE": str(file)}))
            failed = _first_failure(children)
            if failed is not None:
                _wait(children, seconds=SECONDS_TO_NOTICE)
                _end(children, signal.SIGTERM)
        except KeyboardInterrupt:
            _end(children, signal.SIGINT)
            raise SystemExit(128 + signal.SIGINT) from None
        except BaseException:
            _end(children, signal.SIGTERM)
            raise
        if failed is not None:
            raise SystemExit(
                _tell(children[failed].returncode, told[failed], f"rank {failed} of {processes}")
            )
    del store  # not earlier: the processes talk to it


def meeting_point() -> tuple[Any, tuple[str, int]]:
    """A store where the processes find each other, reachable from this machine alone, and its address."""
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

    server = socket.create_server(("127.0.0.1", 0))
    host, port = server.getsockname()
    listening = server.detach()  # the store closes it
    store = TCPStore(host, port, is_master=True, wait_for_workers=False, master_listen_fd=listening)
    return store, (host, port)


def environment_of(rank: int, *, world: int, address: tuple[str, int]) -> dict[str, str]:
    """What a process must know of itself, in torchrun's words; of the rest, the user's own settings come first."""
    defaults = {
        "OMP_NUM_THREADS": str(max(1, settings.cores() // world)),
        # All are on this machine, whose name need not have an address.
        "GLOO_SOCKET_IFNAME": "lo",
        "NCCL_SOCKET_IFNAME": "lo",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }
    return {name: value for name, value in defaults.items() if name not in os.environ} | {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": address[0],
        "MASTER_PORT": str(address[1]),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store is ours, not the first process's
    }


def _start(command: Sequence[str], environment: dict[str, str]) -> Child:
    # A process group of its own: Ctrl-C shall reach it once, through us. Not a session of its own, by which
    # whoever ends a stage finds its processes.
    return subprocess.Popen(
        [sys.executable, *command], env=os.environ | environment, stdin=subprocess.DEVNULL, process_group=0
    )


def _first_failure(children: Sequence[Child]) -> int | None:
    """Wait until one fails or all are done; returns the rank of the one that failed."""
    while True:
        codes = [child.poll() for child in children]
        failed = [rank for rank, code in enumerate(codes) if code]
        if failed:
            return failed[0]
        if all(code == 0 for code in codes):
            return None
        time.sleep(POLL_SECONDS)


def _end(children: Sequence[Child], number: signal.Signals) -> None:
    """Pass a signal on to the processes, not to their own children, and see to it that they end."""
    for again in (signal.SIGTERM, signal.SIGINT):  # another one must not interrupt this
        signal.signal(again, signal.SIG_IGN)
    _each_alive(children, lambda child: child.send_signal(number))
    _wait(children, seconds=SECONDS_TO_END)
    _each_alive(children, lambda child: child.kill())
    for child in children:
        child.wait()


def _wait(children: Sequence[Child], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(child.poll() is None for child in children):
        time.sleep(POLL_SECONDS)


def _each_alive(children: Sequence[Child], act: Callable[[Child], None]) -> None:
    for child in children:
        if child.poll() is None:
            act(child)


def _tell(code: int, told: Path, who: str) -> int:
    """Print why a process failed; returns the exit code for it."""
    if told.is_file():
        message = json.loads(told.read_text(encoding="utf-8"))["message"]
        if code == USER_MISTAKE:
            print(f"error: {message['message']} ({who})", file=sys.stderr)
            return USER_MISTAKE
        print(message["extraInfo"]["py_callstack"], file=sys.stderr)
        print(f"error: {who} failed: {message['message']}", file=sys.stderr)
    elif code < 0:
        remedy = "; if memory ran out, take fewer processes" if code == -signal.SIGKILL else ""
        print(f"error: {who} was ended by {signal.Signals(-code).name}{remedy}", file=sys.stderr)
    else:
        print(f"error: {who} ended with exit status {code} without a word", file=sys.stderr)
    return DEFECT
