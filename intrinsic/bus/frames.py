"""Frames: which event is being handled around the running code.

A frame lives from the call of `publish` until its event, and every event published while it was
handled, is done. Handlers inherit it through a context variable, into tasks and threads, so that a
publish inside a handler is known to be nested:

    publish(a) ─ frame a ─ handler ─ publish(b) ─ frame b (parents: a) ─ handler ─ ...
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from anyio import CapacityLimiter, Event

from intrinsic.events import MemoryEvent

if TYPE_CHECKING:
    from intrinsic.bus.admission import Admission
    from intrinsic.bus.handlers import Handler
    from intrinsic.bus.report import HandlerResult
    from intrinsic.bus.sessions import Session

current: ContextVar[Frame | None] = ContextVar("intrinsic_bus_frame", default=None)
"""The frame around the running code; it may have ended, see `Frame.ended`."""

borrowed_thread: ContextVar[CapacityLimiter | None] = ContextVar(
    "intrinsic_bus_thread", default=None
)
"""Inside a sync handler's worker thread: the limiter that counts this thread."""


class Frame:
    """One event on its way through a bus; what it waits for, holds, and is a part of.

    `parents` are the frames whose handlers wait for it: none for a top-level event, one for a
    nested one, more where several handlers wait for one queued event.
    """

    __slots__ = (
        "admitted",
        "children",
        "ended",
        "event",
        "gate",
        "handlers",
        "holds_slot",
        "owner",
        "parents",
        "results",
        "session",
        "session_id",
        "waits_for",
    )

    def __init__(self, owner: Admission, event: MemoryEvent, parents: tuple[Frame, ...]) -> None:
        self.owner = owner
        self.event = event
        self.parents = parents
        self.session_id = event.context.session_id
        self.session: Session | None = None  # whose turn this frame holds
        self.waits_for: Session | None = None  # in whose queue this frame stands
        self.gate: Event | None = None
        self.admitted = False
        self.holds_slot = False
        self.ended = False
        self.children = 0  # nested frames that are not done
        self.handlers: tuple[Handler, ...] | None = None  # set when they are about to be called
        self.results: list[HandlerResult | None] = []

    def admit(self) -> None:
        """Let it run, and wake its publisher if that waits."""
        self.admitted = True
        if self.gate is not None:
            self.gate.set()

    def ancestors(self) -> Iterator[Frame]:
        """Every frame that waits for this one, nearest first; all of them are still alive."""
        if not self.parents:
            return
        seen: set[Frame] = set()
        stack = list(reversed(self.parents))
        while stack:
            frame = stack.pop()
            if frame not in seen:
                seen.add(frame)
                yield frame
                stack.extend(reversed(frame.parents))


def enclosing_frames() -> tuple[Frame, ...]:
    """The live frame around the running code, as the parents of what is published now.

    A task that outlives the handler which started it is top-level again.
    """
    frame = current.get()
    return () if frame is None or frame.ended else (frame,)


@contextmanager
def lent_thread() -> Iterator[None]:
    """While a sync handler's thread waits for the bus, let another thread run in its place.

    Otherwise nested events for the same handler would wait for threads that wait for them.
    """
    limiter = borrowed_thread.get()
    if limiter is None:
        yield
        return
    borrowed_thread.set(None)
    limiter.total_tokens += 1
    try:
        yield
    finally:
        limiter.total_tokens -= 1
        borrowed_thread.set(limiter)
