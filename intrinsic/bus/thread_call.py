"""A call of a sync handler in a worker thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anyio import CapacityLimiter

from intrinsic.bus.frames import borrowed_thread, current
from intrinsic.events import MemoryEvent


class ThreadCall:
    """A call in a worker thread that can be given up but not ended.

    The order of the assignments matters: whichever of the threads comes first, an abandoned call
    either never starts or is among the `stuck` ones until it ends. An idle worker thread remembers
    its last call, and that call's context, for a while: so both let go of the event in the end.
    """

    __slots__ = (
        "abandoned",
        "done",
        "error",
        "event",
        "function",
        "limiter",
        "started",
        "stuck",
        "value",
    )

    def __init__(
        self,
        function: Callable[[MemoryEvent], Any],
        event: MemoryEvent,
        limiter: CapacityLimiter,
        stuck: set[ThreadCall],
    ) -> None:
        self.function = function
        self.event = event
        self.limiter = limiter
        self.stuck = stuck
        self.abandoned = self.started = self.done = False
        self.value: object = None
        self.error: Exception | None = None

    def run(self) -> None:
        """Call the function, in the worker thread."""
        self.started = True
        if self.abandoned:
            return
        borrowed_thread.set(self.limiter)
        try:
            self.value = self.function(self.event)
        except Exception as error:  # StopIteration could not cross the thread's future
            self.error = error
        finally:
            del self.event
            current.set(None)
            self.done = True
            self.stuck.discard(self)

    def take(self) -> object:
        """Hand over the value, or raise the error."""
        value, error = self.value, self.error
        self.value = self.error = None
        if error is not None:
            try:
                raise error
            finally:
                del error
        return value

    def abandon(self) -> None:
        """Give the call up, from the event loop."""
        self.abandoned = True
        if self.started:
            self.stuck.add(self)
            if self.done:
                self.stuck.discard(self)
