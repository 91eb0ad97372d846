"""One change at a time, with a bound on how long the next one waits."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio

from intrinsic.errors import CapacityError


class Turn:
    """A fair lock. Raises `CapacityError` where it is not had within `wait_timeout_s`."""

    def __init__(self, wait_timeout_s: float) -> None:
        self._wait_timeout_s = wait_timeout_s
        self._lock = anyio.Lock()

    @asynccontextmanager
    async def taken(self, *, patient: bool = False) -> AsyncIterator[None]:
        """Hold the lock for the length of the block; who is patient waits however long."""
        with anyio.move_on_after(math.inf if patient else self._wait_timeout_s) as scope:
            await self._lock.acquire()
        if scope.cancelled_caught:
            raise CapacityError(
                f"no room: other requests still wait for theirs after {self._wait_timeout_s} s; "
                "raise max_loaded or wait_timeout_s"
            )
        try:
            yield
        finally:
            self._lock.release()

    @contextmanager
    def taken_nowait(self) -> Iterator[bool]:
        """Hold the lock for the length of the block if nobody does; the value says whether."""
        try:
            self._lock.acquire_nowait()
        except anyio.WouldBlock:
            yield False
            return
        try:
            yield True
        finally:
            self._lock.release()
