"""A server as a child process: its output in a file, asked whether it is ready, ended with all that it started."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from msclnet.errors import UserError
from pipelines.console import tellable
from pipelines.orchestration.listening import LOOPBACK, is_free
from pipelines.orchestration.stage_process import end_group


class ServiceError(RuntimeError):
    """A server ended by itself, or did not become ready."""


@dataclass(frozen=True)
class Service:
    """A running server.

    Attributes:
        name: for messages.
        process: the child, which leads a session of its own.
        log: the file with its output.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(
        cls, name: str, command: Sequence[str], *, log: Path, folder: Path, environment: Mapping[str, str]
    ) -> "Service":
        """Start a server in a session of its own, so that Ctrl-C in the terminal reaches the caller alone."""
        log.parent.mkdir(parents=True, exist_ok=True)
        output: IO[bytes]
        with log.open("wb") as output:
            process = subprocess.Popen(
                list(command),
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return cls(name=name, process=process, log=log)

    def check(self) -> None:
        """Raise ServiceError, with the server's last lines, if it has ended."""
        code = self.process.poll()
        if code is not None:
            raise ServiceError(f"{self.name} has ended (exit status {code}); its last lines:\n{self.tail()}")

    def wait_until(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Wait for the server, asking it again and again.

        Raises:
            ServiceError: it ended, or was not ready in time.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                message = f"{self.name} was not ready after {seconds:.0f} s; its last lines:\n{self.tail()}"
                raise ServiceError(message)
            time.sleep(0.2)

    def tail(self, lines: int = 15) -> str:
        """The last lines of the server's output, without secrets."""
        text = self.log.read_text(errors="replace").strip().splitlines()
        return "\n".join(f"    {tellable(line)}" for line in text[-lines:])

    def end(self, *, grace: float) -> None:
        """End the server and everything that it has started: SIGTERM, and SIGKILL after `grace` seconds."""
        end_group(self.process, grace=grace)
        self.process.wait()


def port_from(variable: str, default: int, *, user: str, host: str = LOOPBACK) -> int:
    """The port that an environment variable names, provided that it is free.

    Args:
        variable: its name.
        default: the port where it is not set.
        user: who wants the port, for the message.
        host: the address that it listens on.

    Raises:
        UserError: no number from 1 to 65535, or taken.
    """
    text = os.environ.get(variable) or str(default)
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise UserError(f"{variable}={text!r}: expected a port number from 1 to 65535")
    if not is_free(host, int(text)):
        raise UserError(
            f"port {text} for {user} is taken: end the program that uses it, or set {variable} to a free one"
        )
    return int(text)
