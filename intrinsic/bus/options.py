"""The settings of a bus."""

from __future__ import annotations

import math
from dataclasses import dataclass

from intrinsic.errors import ConfigError


@dataclass(frozen=True, slots=True)
class BusOptions:
    """Bounds and deadlines of a bus. Raises `ConfigError` for a value that is not valid.

    `handler_timeout_s` holds for handlers that were registered without one of their own; None
    means that they may run for ever. `max_in_flight` bounds the events handled at the same time,
    `max_queued` those that `publish_nowait` accepted and that have not started, `max_pending` the
    vectors enqueued for a flush, `handler_threads` the worker threads of each sync handler.
    `drain_timeout_s` is how long leaving the bus waits for its work before cancelling it.
    """

    handler_timeout_s: float | None = 30.0
    max_in_flight: int = 100
    max_queued: int = 1_000
    max_pending: int = 10_000
    max_dead_letters: int = 100
    injection_log_size: int = 1_000
    handler_threads: int = 8
    drain_timeout_s: float = 10.0
    shadow: bool = False

    def __post_init__(self) -> None:
        check_timeout("handler_timeout_s", self.handler_timeout_s)
        if not self.drain_timeout_s >= 0.0:
            raise ConfigError(
                f"drain_timeout_s is {self.drain_timeout_s!r}; it must be 0 or more seconds"
            )
        for name in ("max_in_flight", "handler_threads"):
            self._check_count(name, least=1)
        for name in ("max_queued", "max_pending", "max_dead_letters", "injection_log_size"):
            self._check_count(name, least=0)

    def _check_count(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if type(value) is not int or value < least:
            raise ConfigError(f"{name} is {value!r}; it must be a whole number of {least} or more")


def check_timeout(name: str, value: float | None) -> None:
    """Raise `ConfigError` unless `value` is None or a finite number of seconds above 0."""
    if value is None:
        return
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not value > 0.0
        or not math.isfinite(value)
    ):
        raise ConfigError(
            f"{name} is {value!r}; it must be a number of seconds above 0, or None for no timeout"
        )
