"""What worker threads tell an event loop, all of a step at once: waking it costs both sides."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from anyio.lowlevel import EventLoopToken, RunVar, current_token

from intrinsic.backends.job import Job
from intrinsic.worker import post_on_loop

_OUTBOX: RunVar[Outbox] = RunVar("intrinsic_outbox")


class Outbox:
    """Functions to be called on one event loop, in their order, once `flush` is called."""

    def __init__(self, token: EventLoopToken) -> None:
        self._token = token
        self._waiting: deque[tuple[Job, Callable[[], object]]] = deque()

    @classmethod
    def current(cls) -> Outbox:
        """That of the running event loop."""
        try:
            return _OUTBOX.get()
        except LookupError:
            outbox = cls(current_token())
            _OUTBOX.set(outbox)
            return outbox

    def add(self, job: Job, tell: Callable[[], object]) -> None:
        """Have a function called for a job at the next `flush`."""
        self._waiting.append((job, tell))

    def flush(self) -> None:
        """Call what waits, soon; where the loop is gone, the jobs are cancelled instead."""
        if self._waiting and not post_on_loop(self._token, self._deliver):
            while self._waiting:
                self._waiting.popleft()[0].cancelled.set()

    def _deliver(self) -> None:
        while self._waiting:
            self._waiting.popleft()[1]()
