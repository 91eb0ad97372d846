"""The handle of an event that waits on the bus itself."""

from __future__ import annotations

import anyio

from intrinsic.bus.frames import Frame, enclosing_frames, lent_thread
from intrinsic.bus.report import PublishReport
from intrinsic.errors import BusClosedError
from intrinsic.events import MemoryEvent


class QueuedEvent:
    """An event that `publish_nowait` accepted; the bus handles it, whether or not one waits."""

    __slots__ = ("_finished", "_frame", "_report", "done", "event")

    def __init__(self, frame: Frame) -> None:
        self.event: MemoryEvent = frame.event  # with its parent, where it has one
        self._frame = frame
        self.done = False  # becomes true when the event was handled, or given up
        self._finished: anyio.Event | None = None
        self._report: PublishReport | None = None

    async def wait(self) -> PublishReport:
        """Wait until the event was handled, and return its report.

        Inside a handler this makes the event a nested one, so that the handler cannot wait for
        itself: it may then run out of turn. Raises `BusClosedError` where the bus was left first,
        and `BusError` inside the handling of this very event.
        """
        if not self.done:
            for parent in enclosing_frames():
                self._frame.owner.adopt(self._frame, parent)
            if self._finished is None:
                self._finished = anyio.Event()
            with lent_thread():
                await self._finished.wait()
        if self._report is None:
            raise BusClosedError(f"the bus was left before it handled event {self.event.id}")
        return self._report

    def _finish(self, report: PublishReport | None) -> None:
        self._report = report
        self.done = True
        if self._finished is not None:
            self._finished.set()
