"""Run the handlers of an event, each isolated from the others and under its own deadline."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from time import perf_counter

import anyio
from anyio import CancelScope, get_cancelled_exc_class

from intrinsic.bus.frames import Frame
from intrinsic.bus.handlers import Handler
from intrinsic.bus.report import HandlerResult
from intrinsic.cancellation import is_scope_cancelled, is_task_cancelled
from intrinsic.errors import BusClosedError, BusError, HandlerTimeoutError
from intrinsic.events import MemoryEvent

logger = logging.getLogger("intrinsic.bus")


class Delivery:
    """Calls handlers and knows which calls are running, so that closing can end them.

    Here and nowhere else in the bus is `Exception` caught. A cancellation of the publisher passes
    through; a cancelled error that a handler merely raised is that handler's error.
    """

    __slots__ = ("_closed", "_running")

    def __init__(self) -> None:
        self._running: set[CancelScope] = set()
        self._closed = False

    def close(self) -> None:
        """Cancel every running handler; each ends with a `BusClosedError`."""
        self._closed = True
        for scope in self._running:
            scope.cancel()

    async def run(self, frame: Frame, handlers: Sequence[Handler]) -> None:
        """Call all handlers, side by side where there are several; fills `frame.results`.

        A handler that was cancelled or interrupted before it ended leaves None there.
        """
        if len(handlers) == 1 and handlers[0].active:
            # In the publisher's own task: a task for each event costs more than all else here.
            frame.results.append(await self._call(handlers[0], frame.event, own_task=False))
            return
        results: list[HandlerResult | None] = [None] * len(handlers)
        frame.results = results
        try:
            async with anyio.create_task_group() as tasks:
                for index, handler in enumerate(handlers):
                    tasks.start_soon(self._call_into, results, index, handler, frame.event)
        except BaseExceptionGroup as group:
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from None
            raise

    async def _call_into(
        self,
        results: list[HandlerResult | None],
        index: int,
        handler: Handler,
        event: MemoryEvent,
    ) -> None:
        if handler.active:
            results[index] = await self._call(handler, event, own_task=True)

    async def _call(self, handler: Handler, event: MemoryEvent, *, own_task: bool) -> HandlerResult:
        started = perf_counter()
        if self._closed:
            return self._ended(handler, event, started, None)
        timeout_s = handler.timeout_s
        deadline = math.inf if timeout_s is None else anyio.current_time() + timeout_s
        scope = CancelScope(deadline=deadline)
        self._running.add(scope)
        try:
            with scope:
                if handler.is_async:
                    value = await handler.function(event)
                else:
                    value = await handler.call(event)
        except Exception as error:
            if scope.cancel_called:
                return self._ended(handler, event, started, error)
            return _failed(handler, event, started, error)
        except BaseException as error:
            if not isinstance(error, get_cancelled_exc_class()):
                raise
            if is_scope_cancelled() if own_task else is_task_cancelled():
                raise
            if scope.cancel_called:
                return self._ended(handler, event, started, error)
            made_up = BusError(f"handler {handler.name!r} was cancelled by what it awaited")
            made_up.__cause__ = error
            return _failed(handler, event, started, made_up)
        finally:
            self._running.discard(scope)
        if scope.cancelled_caught:
            return self._ended(handler, event, started, None)
        return HandlerResult(handler.name, value, None, (perf_counter() - started) * 1e3)

    def _ended(
        self, handler: Handler, event: MemoryEvent, started: float, cause: BaseException | None
    ) -> HandlerResult:
        error: BusError
        if self._closed:
            error = BusClosedError(f"the bus was left while handler {handler.name!r} ran")
        else:
            error = HandlerTimeoutError(
                f"handler {handler.name!r} did not end within {handler.timeout_s} s; "
                "pass register_handler a longer timeout_s if it needs more"
            )
        error.__cause__ = cause
        return _failed(handler, event, started, error)


def _failed(
    handler: Handler, event: MemoryEvent, started: float, error: BaseException
) -> HandlerResult:
    logger.warning(
        "handler %r failed on event %s (%s): %s: %s",
        handler.name,
        event.id,
        event.channel,
        type(error).__name__,
        error,
        exc_info=error,
    )
    return HandlerResult(handler.name, None, error, (perf_counter() - started) * 1e3)
