"""What became of a published event."""

from __future__ import annotations

from typing import NamedTuple

from intrinsic.errors import HandlerTimeoutError
from intrinsic.events import MemoryEvent


class HandlerResult(NamedTuple):
    """What one handler made of an event: a value, or an error."""

    name: str
    value: object
    error: BaseException | None
    duration_ms: float

    @property
    def ok(self) -> bool:
        """Whether the handler returned."""
        return self.error is None

    @property
    def timed_out(self) -> bool:
        """Whether the handler overran its timeout."""
        return isinstance(self.error, HandlerTimeoutError)


class PublishReport(NamedTuple):
    """What every handler made of an event, in the order in which they were registered.

    `suspended` is the reason given to the kill switch if it kept the event from the handlers;
    `shadow` tells that handlers were to record and apply nothing.
    """

    event: MemoryEvent
    results: tuple[HandlerResult, ...] = ()
    suspended: str | None = None
    shadow: bool = False

    @property
    def ok(self) -> bool:
        """Whether the event reached its handlers and none failed; vacuously true without any."""
        return self.suspended is None and all(result.error is None for result in self.results)

    @property
    def errors(self) -> tuple[BaseException, ...]:
        """The errors of the handlers that failed."""
        return tuple(result.error for result in self.results if result.error is not None)

    @property
    def value(self) -> object:
        """The first value that a handler returned and that is not None, else None."""
        for result in self.results:
            if result.error is None and result.value is not None:
                return result.value
        return None
