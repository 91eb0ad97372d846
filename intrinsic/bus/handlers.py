"""Registered handlers: what they are, and which of them a channel reaches."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread

from intrinsic.bus.thread_call import ThreadCall
from intrinsic.errors import ConfigError, EventError, HandlerTimeoutError
from intrinsic.events import InjectionChannel, MemoryEvent

HandlerFunction = Callable[[MemoryEvent], Any]
"""`handler(event) -> object`, sync or async."""

WILDCARD = "*"


class Handler:
    """One registration: a function on a channel (None: on every channel)."""

    __slots__ = (
        "active",
        "channel",
        "function",
        "in_thread",
        "is_async",
        "name",
        "stuck",
        "thread_limiter",
        "threads",
        "timeout_s",
    )

    def __init__(
        self,
        function: HandlerFunction,
        channel: InjectionChannel | None,
        *,
        name: str | None,
        timeout_s: float | None,
        in_thread: bool | None,
        threads: int,
    ) -> None:
        if not callable(function):
            raise ConfigError(f"handler {function!r} is not callable; pass a function of an event")
        self.function = function
        self.channel = channel
        self.name = name or _name_of(function)
        self.timeout_s = timeout_s
        self.is_async = _is_async(function)
        if self.is_async and in_thread:
            raise ConfigError(
                f"handler {self.name!r} is async and cannot run in a thread; leave in_thread out"
            )
        self.in_thread = not self.is_async if in_thread is None else in_thread
        self.threads = threads
        self.thread_limiter: anyio.CapacityLimiter | None = None
        self.stuck: set[ThreadCall] = set()  # timed out, and still running in their threads
        self.active = True

    async def call(self, event: MemoryEvent) -> object:
        """Call the function where it wants to run, and return its value or raise its error."""
        if self.is_async:
            return await self.function(event)
        value = await self._call_in_thread(event) if self.in_thread else self.function(event)
        return await value if inspect.isawaitable(value) else value

    async def _call_in_thread(self, event: MemoryEvent) -> object:
        if len(self.stuck) >= self.threads:
            raise HandlerTimeoutError(
                f"handler {self.name!r} was not called: {len(self.stuck)} earlier calls that "
                "timed out still occupy its threads"
            )
        limiter = self.thread_limiter
        if limiter is None:
            limiter = self.thread_limiter = anyio.CapacityLimiter(self.threads)
        call = ThreadCall(self.function, event, limiter, self.stuck)
        try:
            await anyio.to_thread.run_sync(call.run, abandon_on_cancel=True, limiter=limiter)
        except BaseException:
            call.abandon()
            raise
        return call.take()


class HandlerTable:
    """The registered handlers by channel, in order of registration."""

    def __init__(self) -> None:
        self._handlers: dict[Handler, None] = {}
        self._by_channel: dict[InjectionChannel, tuple[Handler, ...]] = {}

    def __len__(self) -> int:
        return len(self._handlers)

    def of(self, channel: InjectionChannel) -> tuple[Handler, ...]:
        """The handlers that an event on `channel` reaches."""
        found = self._by_channel.get(channel)
        if found is None:
            found = tuple(h for h in self._handlers if h.channel is None or h.channel is channel)
            self._by_channel[channel] = found
        return found

    def add(self, handler: Handler) -> None:
        """Add a handler after all others."""
        self._handlers[handler] = None
        self._by_channel.clear()

    def remove(self, handler: Handler) -> None:
        """Remove a handler, which gets no further event; does nothing the second time."""
        handler.active = False
        if self._handlers.pop(handler, handler) is None:
            self._by_channel.clear()


def parse_channel(channel: InjectionChannel | str) -> InjectionChannel:
    """Return the channel of that name. Raises `EventError` for an unknown one."""
    try:
        return InjectionChannel(channel)
    except ValueError:
        known = ", ".join(InjectionChannel)
        raise EventError(f"unknown channel {channel!r}; known: {known}") from None


def _unwrap(function: HandlerFunction) -> HandlerFunction:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _is_async(function: HandlerFunction) -> bool:
    function = _unwrap(function)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004
    )


def _name_of(function: HandlerFunction) -> str:
    function = _unwrap(function)
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else type(function).__qualname__
