"""A call in a worker thread that its caller never leaves behind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import anyio
import anyio.to_thread

_T = TypeVar("_T")


async def run_to_end(function: Callable[[], _T], limiter: anyio.CapacityLimiter) -> _T:
    """Call a function in a thread; once it has begun, come back only when it has ended.

    A cancelled scope is noticed before the call or after it; asyncio's own cancellation
    (`wait_for`, `Task.cancel`) is raised when the function has ended, or it is never called.
    """
    call = _Call(function)
    try:
        return await anyio.to_thread.run_sync(call.run, limiter=limiter)
    except anyio.get_cancelled_exc_class():
        if not call.give_up():
            await call.wait()
        raise


class _Call(Generic[_T]):
    def __init__(self, function: Callable[[], _T]) -> None:
        self._function = function
        self._turn = threading.Lock()  # held by the thread, or for good by who gave up
        self._ended = threading.Event()

    def run(self) -> _T:
        if not self._turn.acquire(blocking=False):
            raise RuntimeError("its caller is gone")
        try:
            return self._function()
        finally:
            self._ended.set()

    def give_up(self) -> bool:
        """Whether the function was not begun, and now never will be."""
        return self._turn.acquire(blocking=False)

    async def wait(self) -> None:
        with anyio.CancelScope(shield=True):
            while not self._ended.is_set():
                try:
                    await anyio.to_thread.run_sync(
                        self._ended.wait, limiter=anyio.CapacityLimiter(1)
                    )
                except anyio.get_cancelled_exc_class():
                    continue  # the caller raises the first one
