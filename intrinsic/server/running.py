"""The requests that run, and how they are ended when the server is stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio


class RunningRequests:
    """Every request that is being answered; none is taken once `stop` was called."""

    def __init__(self) -> None:
        self.stopping = anyio.Event()
        """Set when the server is being stopped; answers without an end of their own end then."""
        self._scopes: set[anyio.CancelScope] = set()
        self._left = anyio.Event()

    def __len__(self) -> int:
        """How many run."""
        return len(self._scopes)

    @property
    def is_stopping(self) -> bool:
        """Whether no request is taken any more."""
        return self.stopping.is_set()

    @contextmanager
    def one(self, timeout_s: float) -> Iterator[anyio.CancelScope]:
        """Run the block as a request; its scope is cancelled after that time, or by `cancel`."""
        with anyio.move_on_after(timeout_s) as scope:
            self._scopes.add(scope)
            try:
                yield scope
            finally:
                self._scopes.discard(scope)
                if not self._scopes:
                    self._left.set()
                    self._left = anyio.Event()

    def stop(self) -> None:
        """Take no more requests."""
        self.stopping.set()

    def cancel(self) -> int:
        """End all that run, and say how many those are."""
        for scope in self._scopes:
            scope.cancel()
        return len(self._scopes)

    async def wait_until_idle(self) -> None:
        """Come back when none runs."""
        while self._scopes:
            await self._left.wait()
