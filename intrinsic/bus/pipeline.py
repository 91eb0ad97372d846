"""The way of one event through the bus: opened, admitted, handled, recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from anyio import Event, move_on_after
from anyio.lowlevel import checkpoint

from intrinsic.bus.admission import Admission
from intrinsic.bus.dead_letters import DeadLetters
from intrinsic.bus.delivery import Delivery
from intrinsic.bus.frames import Frame, current, enclosing_frames, lent_thread
from intrinsic.bus.handlers import Handler, HandlerTable
from intrinsic.bus.injection_log import InjectionRecorder
from intrinsic.bus.observers import Notice, Observers
from intrinsic.bus.options import BusOptions
from intrinsic.bus.pending import check_vector
from intrinsic.bus.report import HandlerResult, PublishReport
from intrinsic.bus.state import Source, State
from intrinsic.errors import BusClosedError, BusError, EventError
from intrinsic.events import MemoryEvent

if TYPE_CHECKING:
    from intrinsic.plugins import PluginManager


class Pipeline:
    """Runs events, and counts what becomes of them. One bus has one pipeline."""

    def __init__(self, options: BusOptions, plugins: PluginManager | None) -> None:
        self.plugins = plugins
        self.state = State.NEW
        self.thread = 0
        self.suspended: str | None = None
        self.shadow = options.shadow
        self.table = HandlerTable()
        self.admission = Admission(options.max_in_flight)
        self.delivery = Delivery()
        self.letters = DeadLetters(options.max_dead_letters)
        self.log = InjectionRecorder(options.injection_log_size)
        self.observers = Observers()
        self.published = self.completed = self.cancelled = self.dropped = 0
        self.in_flight = self.waiting = self.queued = 0
        self.failed = self.timed_out = self.shadowed = self.kept_back = 0

    def check_open(self, parents: tuple[Frame, ...] = ()) -> None:
        """Raise `BusClosedError` unless something may be published now, under `parents`."""
        if self.state is State.OPEN:
            return
        if self.state is State.DRAINING:
            for parent in parents:
                if parent.owner is self.admission or any(
                    ancestor.owner is self.admission for ancestor in parent.ancestors()
                ):
                    return
        raise BusClosedError(f"this bus {self.state.value}")

    def parents(self) -> tuple[Frame, ...]:
        """The frames that an event published now is nested in."""
        if current.get() is None:
            return ()
        # A handler's worker thread may run an event loop of its own, with a bus of its own: frames
        # of another loop's bus are not ours to touch.
        return tuple(f for f in enclosing_frames() if f.owner.thread == self.admission.thread)

    def open(self, event: MemoryEvent, parents: tuple[Frame, ...]) -> Frame:
        """Give the event its place in the order, without waiting."""
        if not isinstance(event, MemoryEvent):
            raise EventError(
                f"cannot publish {type(event).__name__}; publish a MemoryEvent, "
                "for instance MemoryEvent.from_text('...')"
            )
        for vector in event.vectors:
            check_vector(vector)
        if parents:
            event = event.with_parent(parents[0].event.id)
        frame = Frame(self.admission, event, parents)
        self.published += 1
        self.admission.enter(frame)
        if "published" in self.observers.watching:
            self.observers.tell(Notice("published", event))
        return frame

    async def publish(
        self, event: MemoryEvent, handlers: tuple[Handler, ...] | None = None
    ) -> PublishReport:
        """Hand the event to `handlers`, or to those of its channel, when its turn has come."""
        parents = self.parents()
        if self.state is not State.OPEN:
            self.check_open(parents)
        frame = self.open(event, parents)
        if not parents:
            return await self.run(frame, handlers)
        with lent_thread():
            return await self.run(frame, handlers)

    async def run(
        self,
        frame: Frame,
        handlers: tuple[Handler, ...] | None = None,
        source: Source = Source.CALLER,
    ) -> PublishReport:
        """Wait until the frame is admitted, handle its event, and end the frame."""
        queued = source is Source.QUEUE
        try:
            if not frame.admitted:
                await self._wait(frame, queued)
            self.in_flight += 1
            self.queued -= queued
            try:
                await checkpoint()
                self._check_not_closed(frame)
                return await self._handle(frame, handlers)
            except BaseException:
                self._record_interrupted(frame, source)
                raise
            finally:
                self.in_flight -= 1
        finally:
            self.admission.leave(frame)

    async def drain(self, timeout_s: float) -> None:
        """Wait until every event is done; from now on only handlers may publish."""
        if self.state is State.OPEN:
            self.state = State.DRAINING
        with move_on_after(timeout_s):
            while self.admission.live:
                self.admission.idle = Event()
                await self.admission.idle.wait()

    def close(self) -> None:
        """End everything that runs or waits."""
        self.state = State.CLOSED
        self.delivery.close()
        for frame in self.admission.waiting_frames():
            if frame.gate is not None:
                frame.gate.set()

    def _check_not_closed(self, frame: Frame) -> None:
        if self.state is State.CLOSED:
            raise BusClosedError(f"the bus was left before it handled event {frame.event.id}")

    async def _wait(self, frame: Frame, queued: bool) -> None:
        frame.gate = gate = Event()
        self.waiting += not queued
        try:
            await gate.wait()
            self._check_not_closed(frame)
        except BaseException:
            self._give_up(frame, queued)
            self.queued -= queued
            raise
        finally:
            self.waiting -= not queued

    async def _handle(self, frame: Frame, handlers: tuple[Handler, ...] | None) -> PublishReport:
        event = frame.event
        shadow = self.shadow or event.metadata.get("shadow") is True
        outer = current.get()
        current.set(frame)
        try:
            plugins = self.plugins
            if plugins is not None and self.suspended is None and plugins.has("on_event"):
                await plugins.notify("on_event", event=event)
            if self.suspended is None:
                frame.handlers = self.table.of(event.channel) if handlers is None else handlers
                await self.delivery.run(frame, frame.handlers)
        finally:
            current.set(outer)
        results = tuple([result for result in frame.results if result is not None])
        reason = None if frame.handlers is not None else self.suspended
        report = PublishReport(event, results, reason, shadow)
        self._record(frame, report, keep_failed=handlers is None)
        frame.results = []
        return report

    def _record(self, frame: Frame, report: PublishReport, *, keep_failed: bool) -> None:
        if report.suspended is not None:
            self.kept_back += 1
        else:
            self.completed += 1
            self.shadowed += report.shadow
        taken = self.log.record(report)
        if taken != len(report.results):
            self._record_failures(frame, keep_failed=keep_failed)
        if "handled" in self.observers.watching:
            self.observers.tell(Notice("handled", report.event, report=report))

    def _record_failures(self, frame: Frame, *, keep_failed: bool) -> None:
        for handler, result in zip(frame.handlers or (), frame.results, strict=False):
            if result is None or result.error is None:
                continue
            if result.timed_out:
                self.timed_out += 1
                self.observers.tell(Notice("timeout", frame.event, result.name, result.error))
            else:
                self.failed += 1
                self.observers.tell(Notice("failed", frame.event, result.name, result.error))
            if keep_failed:
                self._bury(frame.event, handler, result.error)

    def _record_interrupted(self, frame: Frame, source: Source) -> None:
        """Take note of what was delivered before the publisher was cancelled."""
        if frame.handlers is None:
            self._give_up(frame, source is Source.QUEUE)
            return
        self.cancelled += 1
        done = tuple([result for result in frame.results if result is not None])
        self.log.record(PublishReport(frame.event, done))
        self._record_failures(frame, keep_failed=True)
        if source is Source.QUEUE or (source is Source.FLUSH and done):
            self._bury_interrupted(frame)

    def _give_up(self, frame: Frame, queued: bool) -> None:
        if queued:
            self.dropped += 1
            self.observers.tell(Notice("dropped", frame.event, reason="the bus was left"))
        else:
            self.cancelled += 1

    def _bury_interrupted(self, frame: Frame) -> None:
        """Make dead letters for the handlers that were cut short, so that a replay reaches them."""
        results: Sequence[HandlerResult | None] = frame.results or (None,)
        for handler, result in zip(frame.handlers or (), results, strict=False):
            if result is None:
                error = BusError(f"handler {handler.name!r} was cancelled together with the bus")
                self._bury(frame.event, handler, error)

    def _bury(self, event: MemoryEvent, handler: Handler, error: BaseException) -> None:
        """Keep a failed delivery for a replay."""
        oldest = self.letters.add(event, handler, error)
        self.observers.tell(Notice("dead_letter", event, handler.name, error))
        if oldest is not None:
            self.observers.tell(
                Notice("dropped", oldest.event, oldest.handler, oldest.error, reason="list full")
            )
