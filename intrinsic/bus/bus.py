"""The memory bus: hands events to handlers, in order per session, and survives what they do.

publish ─▶ admission (turn of the session, slot) ─▶ delivery (each handler alone) ─▶ report
                                                                 │ failed
                                        replay ◀─ dead letters ◀─┘
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

import anyio
from anyio.abc import TaskGroup

from intrinsic.bus.background import Work, run_beside
from intrinsic.bus.dead_letters import DeadLetter
from intrinsic.bus.frames import borrowed_thread
from intrinsic.bus.handlers import WILDCARD, Handler, HandlerFunction, parse_channel
from intrinsic.bus.injection_log import InjectionLog
from intrinsic.bus.observers import Notice, NoticeName, Observer
from intrinsic.bus.options import BusOptions, check_timeout
from intrinsic.bus.pipeline import Pipeline
from intrinsic.bus.queued import QueuedEvent
from intrinsic.bus.replay import replay
from intrinsic.bus.report import PublishReport
from intrinsic.bus.state import Source, State
from intrinsic.bus.statistics import BusStatistics, count
from intrinsic.bus.subscription import Subscription
from intrinsic.bus.turns import Turns
from intrinsic.errors import BusClosedError, BusFullError, ConfigError
from intrinsic.events import EventContext, InjectionChannel, MemoryEvent, MemoryVector

if TYPE_CHECKING:
    from intrinsic.plugins import PluginManager

_CLOSING_GRACE_S = 1.0


class MemoryBus:
    """An async context manager that owns its tasks; it belongs to the event loop that entered it.

    Leaving it normally handles what is queued and running, for `BusOptions.drain_timeout_s`;
    leaving it with an exception cancels at once. Outside the context everything that delivers
    raises `BusClosedError`; handlers and observers may be registered at any time.
    """

    def __init__(
        self, options: BusOptions | None = None, *, plugins: PluginManager | None = None
    ) -> None:
        self.options = options or BusOptions()
        self._pipeline = Pipeline(self.options, plugins)
        self._turns = Turns(self._pipeline, self.options.max_pending)
        self._tasks: TaskGroup | None = None
        self._refused = 0

    async def __aenter__(self) -> Self:
        if self._pipeline.state is not State.NEW:
            raise BusClosedError("a bus can be entered only once; build a new one")
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._pipeline.admission.thread = get_ident()
        self._pipeline.state = State.OPEN
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        assert self._tasks is not None
        swallow: bool | None = False
        try:
            if exc is None:
                await self._pipeline.drain(self.options.drain_timeout_s)
        finally:
            self._pipeline.close()
            self._tasks.cancel_scope.cancel()
            # The task group sees only what it must: a cancellation that may be its own. It would
            # wrap any other exception in a group.
            if exc is not None and _holds_cancellation(exc):
                swallow = await self._tasks.__aexit__(exc_type, exc, traceback)
            else:
                await self._tasks.__aexit__(None, None, None)
            with anyio.CancelScope(shield=True):
                await self._pipeline.drain(_CLOSING_GRACE_S)
        if exc is None:
            self._warn_of_pending()
        return swallow

    def __del__(self) -> None:
        turns = getattr(self, "_turns", None)
        if turns is not None and self._pipeline.state is not State.CLOSED:
            self._warn_of_pending()

    @property
    def plugins(self) -> PluginManager | None:
        """The plugins that hear of events; None means that none does."""
        return self._pipeline.plugins

    @plugins.setter
    def plugins(self, plugins: PluginManager | None) -> None:
        self._pipeline.plugins = plugins

    # -- handlers and observers ----------------------------------------------------------------

    def register_handler(
        self,
        channel: InjectionChannel | str | None,
        handler: HandlerFunction,
        *,
        timeout_s: float | Literal["default"] | None = "default",
        name: str | None = None,
        in_thread: bool | None = None,
    ) -> Subscription:
        """Call `handler(event)` for every event on `channel`; None or "*" stands for all channels.

        A sync handler runs in a worker thread, unless `in_thread=False` says that it never blocks;
        it then runs on the event loop and cannot be timed out. `timeout_s=None` lets it run for
        ever; without it the bus's own default holds. Raises `EventError` for an unknown channel.
        """
        if timeout_s == "default":
            timeout_s = self.options.handler_timeout_s
        check_timeout("timeout_s", timeout_s)
        entry = Handler(
            handler,
            None if channel is None or channel == WILDCARD else parse_channel(channel),
            name=name,
            timeout_s=timeout_s,
            in_thread=in_thread,
            threads=self.options.handler_threads,
        )
        table = self._pipeline.table
        table.add(entry)
        return Subscription(entry.name, lambda: table.remove(entry))

    def on(self, name: NoticeName, callback: Observer) -> Subscription:
        """Call `callback(notice)`, a plain function, whenever something of that name happens."""
        return self._pipeline.observers.add(name, callback)

    def tell(self, notice: Notice) -> None:
        """Tell the observers what happened beside the bus, such as to an adapter."""
        self._pipeline.observers.tell(notice)

    # -- publishing ----------------------------------------------------------------------------

    async def publish(self, event: MemoryEvent) -> PublishReport:
        """Hand an event to its handlers and return what each made of it.

        Waits, in order of the calls, while an event of the same session is being handled or
        `max_in_flight` events are. Inside a handler it never waits in a circle. Errors of handlers
        are in the report; a cancellation of the caller cancels the handlers. Raises
        `BusClosedError`, and `EventError` for what is no event.
        """
        return await self._pipeline.publish(event)

    def publish_nowait(self, event: MemoryEvent) -> QueuedEvent:
        """Leave an event to the bus, which handles it in the order of the calls.

        Raises `BusFullError` when `max_queued` events have not been started yet.
        """
        pipeline = self._pipeline
        parents = pipeline.parents()
        pipeline.check_open(parents)
        if pipeline.queued >= self.options.max_queued:
            self._refused += 1
            raise BusFullError(
                f"{pipeline.queued} events are queued (max_queued={self.options.max_queued}); "
                "wait with 'await bus.publish(event)' or publish more slowly"
            )
        if parents:
            event = event.with_parent(parents[0].event.id)
        queued = QueuedEvent(pipeline.open(event, ()))
        pipeline.queued += 1
        assert self._tasks is not None
        self._tasks.start_soon(self._run_queued, queued)
        return queued

    async def _run_queued(self, queued: QueuedEvent) -> None:
        borrowed_thread.set(None)  # inherited, where a handler's thread queued the event
        report = None
        try:
            report = await self._pipeline.run(queued._frame, source=Source.QUEUE)
        except BusClosedError:
            pass
        finally:
            queued._finish(report)

    def start_background(self, work: Work) -> None:
        """Do work that no event waits for, in a task of the bus; leaving the bus cancels it.

        What it raises is logged. Raises `BusClosedError` once the bus is being left.
        """
        self._pipeline.check_open(self._pipeline.parents())
        assert self._tasks is not None
        self._tasks.start_soon(run_beside, work)

    # -- turn-based delivery -------------------------------------------------------------------

    def enqueue(
        self,
        channel: InjectionChannel | str,
        vectors: Sequence[MemoryVector],
        *,
        context: EventContext | None = None,
    ) -> None:
        """Keep vectors for the next flush: all of them or, raising `BusFullError`, none."""
        self._turns.enqueue(channel, vectors, context)

    async def flush(self, channel: InjectionChannel | str | None = None) -> list[PublishReport]:
        """Deliver what was enqueued before this call, on one channel or on all, in order.

        Neighbours of one context become one event. A vector is taken by one flush only; it stays
        enqueued if the bus is suspended, if its channel has no handler, or if the flush is
        cancelled before any handler ended. A handler that fails has had its delivery: it gets a
        dead letter, and the other channels follow.
        """
        return await self._turns.flush(channel)

    async def replay(self, letter: DeadLetter | str | None = None) -> list[PublishReport]:
        """Deliver one dead letter, or all, again: to the handler that failed and to no other.

        A letter that succeeds leaves the list. One whose handler was cancelled goes to a handler
        of the same name, if there is one. Raises `BusError` for an id that is not on the list.
        """
        letter_id = letter.id if isinstance(letter, DeadLetter) else letter
        return await replay(self._pipeline, letter_id)

    # -- switches ------------------------------------------------------------------------------

    @property
    def suspended(self) -> str | None:
        """Why the kill switch was thrown, or None."""
        return self._pipeline.suspended

    def suspend(self, reason: str) -> None:
        """Throw the kill switch: from the next event on no handler is called; vectors stay."""
        if not reason:
            raise ConfigError("suspend needs a reason, which every report will show")
        self._pipeline.suspended = reason
        self._pipeline.observers.tell(Notice("suspended", reason=reason))

    def resume(self) -> None:
        """Call handlers again."""
        reason, self._pipeline.suspended = self._pipeline.suspended, None
        if reason is not None:
            self._pipeline.observers.tell(Notice("resumed", reason=reason))

    @property
    def shadow(self) -> bool:
        """Whether handlers shall route and record, and apply nothing."""
        return self._pipeline.shadow

    def set_shadow(self, shadow: bool) -> None:
        """Switch shadow mode for all events from the next one on."""
        self._pipeline.shadow = shadow

    def is_shadow(self, event: MemoryEvent) -> bool:
        """Whether `event` is handled in shadow mode: the bus's own, or `metadata["shadow"]`."""
        return self._pipeline.shadow or event.metadata.get("shadow") is True

    # -- views ---------------------------------------------------------------------------------

    @property
    def injection_log(self) -> InjectionLog:
        """What was in fact delivered, newest last."""
        return self._pipeline.log.snapshot()

    @property
    def dead_letters(self) -> tuple[DeadLetter, ...]:
        """The deliveries that failed and were not replayed, oldest first."""
        return self._pipeline.letters.snapshot()

    def statistics(self) -> BusStatistics:
        """The counters as they are now."""
        return count(self._pipeline, self._turns, self._refused)

    def _warn_of_pending(self) -> None:
        if self._turns.pending.count:
            warnings.warn(
                f"a bus was left with {self._turns.pending.count} enqueued vectors; "
                "deliver them with 'await bus.flush()' first",
                ResourceWarning,
                stacklevel=3,
            )


def _holds_cancellation(exc: BaseException) -> bool:
    cancelled = anyio.get_cancelled_exc_class()
    if isinstance(exc, BaseExceptionGroup):
        return exc.subgroup(cancelled) is not None
    return isinstance(exc, cancelled)
