"""Sends what a run logs in a background thread: the work never waits for the server."""

import logging
import queue
import threading
from collections.abc import Callable

from msclnet.tracking.masking import brief

RESEND = (
    "Afterwards, send the missing metrics with: msclnet resend HISTORY.csv RUN.json "
    "(the run's history and its run.json)."
)
_SECONDS_BETWEEN_ATTEMPTS = 30.0

logger = logging.getLogger("msclnet.tracking")


class Sender:
    """Calls the server in one background thread, in order; a call that fails is tried again while the run lasts.

    MLflow's own asynchronous queue takes metrics and tags only, reports each failed batch as an error in the log,
    forgets it, and waits without a limit for a server that hangs when the process ends.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._calls: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._lost = False
        self._warned = False
        # A daemon: a request that hangs must not keep the process alive.
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def put(self, call: Callable[[], object]) -> None:
        """Queue a call."""
        self._calls.put(call)

    def close(self, seconds: float) -> bool:
        """Wait until all is sent, an attempt fails, or the time is over; whether all was sent."""
        self._calls.put(None)
        self._closing.set()
        self._thread.join(seconds)
        return not (self._thread.is_alive() or self._lost)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            last_attempt = self._closing.is_set()
            while not self._done(call):
                if last_attempt:
                    self._lost = True
                    return
                last_attempt = self._closing.wait(_SECONDS_BETWEEN_ATTEMPTS)

    def _done(self, call: Callable[[], object]) -> bool:
        """Whether the call needs no further attempt: it succeeded, or the server refused it."""
        try:
            call()
        except Exception as error:  # clients, drivers and file systems share no base class
            if _is_refusal(error):
                self._lost = True
                logger.warning("MLflow at %s refused to store something: %s", self._address, brief(error))
                return True
            if not self._warned:
                self._warned = True
                text = "MLflow at %s does not answer (%s). The work goes on and its files are the record. %s"
                logger.warning(text, self._address, brief(error), RESEND)
            return False
        return True


def _is_refusal(error: Exception) -> bool:
    """Whether trying again is useless: the server understood and said no, or a file to send is not there."""
    from mlflow import MlflowException

    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
        return 400 <= status < 500 and status not in (408, 429)
    return isinstance(error, (FileNotFoundError, PermissionError, TypeError, ValueError))
