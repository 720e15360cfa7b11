"""Sends to MLflow in the background, so that training never waits for a server."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from msclnet.tracking.masking import brief

if TYPE_CHECKING:
    from mlflow.entities import Metric

logger = logging.getLogger("msclnet.tracking")

METRICS_PER_REQUEST = 1000  # MLflow refuses more
METRICS_KEPT = 200_000  # about 50 MB while a server is away
SECONDS_BETWEEN_ATTEMPTS = 30.0


class Outbox:
    """A queue with one thread that empties it, in order: metrics first, then the other calls.

    Nothing here raises and nothing but `close` waits. What fails because the server is away is kept and tried
    again; what the server refuses is dropped with a warning.
    """

    def __init__(
        self,
        send_metrics: Callable[[Sequence["Metric"]], None],
        *,
        address: str,
        remedy: str,
        pause: float = SECONDS_BETWEEN_ATTEMPTS,
    ) -> None:
        """Starts the thread.

        Args:
            send_metrics: Sends up to `METRICS_PER_REQUEST` metrics; sending some twice must do no harm.
            address: The server's masked address, for messages.
            remedy: What the user can do afterwards when the server stays away, for messages.
            pause: Seconds between attempts while the server is away.
        """
        self._send_metrics = send_metrics
        self._address = address
        self._remedy = remedy
        self._pause = pause
        self._metrics: deque[Metric] = deque()
        self._calls: deque[Callable[[], object]] = deque()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._away = False
        self._lost = False
        # A daemon: a request that hangs must not keep the process alive.
        self._thread = threading.Thread(target=self._work, name="mlflow-outbox", daemon=True)
        self._thread.start()

    def put_metrics(self, metrics: Sequence["Metric"]) -> None:
        """Queues metrics. Beyond `METRICS_KEPT` waiting ones, new ones are left to the history file."""
        with self._changed:
            if len(self._metrics) + len(metrics) > METRICS_KEPT:
                self._lost = True
                return
            self._metrics.extend(metrics)
            self._changed.notify()

    def put(self, call: Callable[[], object]) -> None:
        """Queues a call that talks to the server."""
        with self._changed:
            self._calls.append(call)
            self._changed.notify()

    def close(self, seconds: float) -> bool:
        """Waits until everything is sent, one attempt failed, or the time is over.

        Args:
            seconds: The longest time to wait.

        Returns:
            Whether everything that was ever queued has been sent.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            self._closing.set()
            self._changed.notify()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        return not (self._thread.is_alive() or self._metrics or self._calls or self._lost)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (self._metrics or self._calls or self._closing.is_set()):
                    self._changed.wait()
                if not (self._metrics or self._calls):
                    return
            last_attempt = self._closing.is_set()
            if not self._send_some():
                if last_attempt:
                    return
                self._closing.wait(self._pause)

    def _send_some(self) -> bool:
        count = min(len(self._metrics), METRICS_PER_REQUEST)
        try:
            if count:
                self._send_metrics(list(islice(self._metrics, count)))
            else:
                self._calls[0]()
        except Exception as error:  # clients, drivers and file systems share no base class
            if not _is_refusal(error):
                self._note_absence(error)
                return False
            self._lost = True
            logger.warning("MLflow at %s refused to store something: %s", self._address, brief(error))
        else:
            self._note_presence()
        with self._changed:
            if count:
                for _ in range(count):
                    self._metrics.popleft()
            else:
                self._calls.popleft()
        return True

    def _note_absence(self, error: Exception) -> None:
        if not self._away:
            self._away = True
            logger.warning(
                "MLflow at %s does not answer (%s). The work goes on and its files are the record; the "
                "server is tried again now and then. %s",
                self._address,
                brief(error),
                self._remedy,
            )

    def _note_presence(self) -> None:
        if self._away:
            self._away = False
            logger.warning("MLflow at %s answers again; what was kept is being sent.", self._address)


def _is_refusal(error: Exception) -> bool:
    """Whether trying again is useless: the server understood and said no, or a file to send is not there."""
    from mlflow import MlflowException

    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
        return 400 <= status < 500 and status not in (408, 429)
    return isinstance(error, (FileNotFoundError, PermissionError, TypeError, ValueError))
