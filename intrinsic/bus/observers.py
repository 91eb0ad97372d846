"""Observers of the bus: plain functions that are told what happened."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

from intrinsic.bus.report import PublishReport
from intrinsic.bus.subscription import Subscription
from intrinsic.errors import ConfigError
from intrinsic.events import MemoryEvent

logger = logging.getLogger("intrinsic.bus")

NoticeName = Literal[
    "published",
    "handled",
    "failed",
    "timeout",
    "dead_letter",
    "suspended",
    "resumed",
    "flushed",
    "dropped",
    "adapter.registered",
    "adapter.activated",
    "adapter.deactivated",
    "adapter.changed",
    "adapter.renamed",
    "adapter.deleted",
]
"""What an observer can be told of."""


class Notice(NamedTuple):
    """What an observer is told; fields that do not apply are None."""

    name: NoticeName
    event: MemoryEvent | None = None
    handler: str | None = None
    error: BaseException | None = None
    report: PublishReport | None = None
    reason: str | None = None
    adapter: str | None = None
    """`name@version`, of what the registry tells."""


Observer = Callable[[Notice], object]


class Observers:
    """Observers by the name of the notice; one that raises is logged and counted, no more."""

    def __init__(self) -> None:
        self.watching: dict[NoticeName, tuple[Observer, ...]] = {}
        self.errors = 0

    def add(self, name: NoticeName, callback: Observer) -> Subscription:
        """Call `callback` on every notice of that name. Raises `ConfigError` if that cannot be."""
        if name not in get_args(NoticeName):
            known = ", ".join(get_args(NoticeName))
            raise ConfigError(f"unknown notice {name!r}; known: {known}")
        if not callable(callback) or inspect.iscoroutinefunction(callback):
            raise ConfigError(
                f"observer {callback!r} is not a plain function; "
                "observers are not awaited, register a handler for async work"
            )
        entry: Observer = lambda notice: callback(notice)  # noqa: E731  unique, to be removed by
        self.watching[name] = (*self.watching.get(name, ()), entry)

        def cancel() -> None:
            left = tuple(e for e in self.watching.get(name, ()) if e is not entry)
            if left:
                self.watching[name] = left
            else:
                self.watching.pop(name, None)

        return Subscription(name, cancel)

    def tell(self, notice: Notice) -> None:
        """Tell the observers of this notice."""
        for callback in self.watching.get(notice.name, ()):
            try:
                callback(notice)
            except Exception:
                self.errors += 1
                logger.exception("an observer of %r failed", notice.name)
