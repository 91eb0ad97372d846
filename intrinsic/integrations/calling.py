"""Plain calls, from any thread, into the event loop that a system lives on."""

from __future__ import annotations

import queue
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from contextlib import aclosing
from typing import Any, TypeVar

import anyio
import anyio.from_thread
from anyio.lowlevel import EventLoopToken, current_token

from intrinsic.errors import ConfigError
from intrinsic.worker import call_on_loop

_T = TypeVar("_T")


class Loop:
    """The event loop on which a system was opened."""

    def __init__(self, token: EventLoopToken) -> None:
        self._token = token

    @classmethod
    def running(cls) -> Loop | None:
        """The loop that runs here, or None where none does."""
        try:
            return cls(current_token())
        except RuntimeError:
            return None

    def call(self, function: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Run an async function there to its end, and wait for it here.

        Raises `ConfigError` on the loop's own thread, which would wait for itself.
        """
        self._check_elsewhere()
        return anyio.from_thread.run(function, token=self._token)

    def iterate(self, make: Callable[[], AsyncGenerator[_T, None]]) -> Iterator[_T]:
        """Iterate an async generator that runs there; leaving early ends it, and waits for that."""
        self._check_elsewhere()
        return self._iterate(make)

    def _iterate(self, make: Callable[[], AsyncGenerator[_T, None]]) -> Iterator[_T]:
        found: queue.SimpleQueue[tuple[_T] | BaseException | None] = queue.SimpleQueue()
        scopes: list[anyio.CancelScope] = []
        left = threading.Event()

        async def pump() -> None:
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                if left.is_set():
                    return
                async with aclosing(make()) as items:
                    async for item in items:
                        found.put((item,))

        def run() -> None:
            try:
                anyio.from_thread.run(pump, token=self._token)
            except BaseException as error:
                found.put(error)
            else:
                found.put(None)

        thread = threading.Thread(target=run, name="intrinsic-iterate", daemon=True)
        thread.start()
        try:
            while (item := found.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item[0]
        finally:
            left.set()
            call_on_loop(self._token, lambda: _cancel(scopes))
            thread.join()

    def _check_elsewhere(self) -> None:
        here = Loop.running()
        if here is not None and here._token == self._token:
            raise ConfigError(
                "a plain call on the thread of the event loop would wait for itself; "
                "use the async method there (ainvoke, astream), or call from another thread"
            )


def _cancel(scopes: Iterable[anyio.CancelScope]) -> None:
    for scope in scopes:
        scope.cancel()
