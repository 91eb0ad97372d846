"""Requests in the order in which they came: so many run, so many wait, the rest is refused."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from intrinsic.server.envelope import ApiError

RETRY_AFTER_S = 1


class RequestQueue:
    """At most `max_running` at once and `max_queued` waiting, first come first served."""

    def __init__(self, *, max_running: int, max_queued: int) -> None:
        self.max_running = max_running
        self.max_queued = max_queued
        self.running = 0
        self._waiting: deque[_Turn] = deque()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Run the block in its turn. Raises a 429 where too many wait already."""
        async with self._turn(_Turn(alone=False)):
            yield

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Run the block when what runs has ended; what comes later waits for it.

        Raises a 429 where too many wait already.
        """
        async with self._turn(_Turn(alone=True)):
            yield

    @asynccontextmanager
    async def _turn(self, turn: _Turn) -> AsyncIterator[None]:
        self._waiting.append(turn)
        self._start()
        if not turn.started and len(self._waiting) > self.max_queued:
            self._waiting.remove(turn)
            raise ApiError(
                429,
                f"{self.max_queued} requests are waiting already; try again later",
                headers={"Retry-After": str(RETRY_AFTER_S)},
            )
        try:
            await turn.go.wait()
            yield
        finally:
            if turn.started:
                self.running -= 1
                self._alone = False
            else:
                self._waiting.remove(turn)
            self._start()

    _alone = False

    def _start(self) -> None:
        """Start those whose turn it is."""
        while self._waiting and not self._alone and self.running < self.max_running:
            turn = self._waiting[0]
            if turn.alone and self.running:
                return
            self._waiting.popleft()
            self.running += 1
            self._alone = turn.alone
            turn.started = True
            turn.go.set()


class _Turn:
    def __init__(self, *, alone: bool) -> None:
        self.alone = alone
        self.started = False
        self.go = anyio.Event()
