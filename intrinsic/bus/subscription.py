"""What registering returns."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self


class Subscription:
    """A registered handler or observer; cancelled by `cancel()` or by leaving its `with` block."""

    __slots__ = ("_cancel", "name")

    def __init__(self, name: str, cancel: Callable[[], None]) -> None:
        self.name = name
        self._cancel = cancel

    def cancel(self) -> None:
        """End it: no further event is delivered. A running call ends by itself. Idempotent."""
        self._cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()
