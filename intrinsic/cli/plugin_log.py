"""Failed plugins are told in a line each, unless somebody asked for the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from intrinsic.cli.output import tell

_LOGGER = logging.getLogger("intrinsic.plugins")
_TOLD: set[str] = set()


@contextmanager
def failures_in_a_line() -> Iterator[None]:
    """While it is open, what the plugins' log says is told once, unless the log is handled."""
    _TOLD.clear()
    _LOGGER.addFilter(_tell)
    try:
        yield
    finally:
        _LOGGER.removeFilter(_tell)
        _TOLD.clear()


def tell_error(error: BaseException) -> None:
    """Tell an error that a command was handed, unless the log was told of it."""
    if str(error) not in _TOLD:
        tell(f"intrinsic: {error}")


def _tell(record: logging.LogRecord) -> bool:
    if _LOGGER.hasHandlers():
        return True
    text = record.getMessage()
    if text not in _TOLD:
        _TOLD.add(text)
        tell(f"intrinsic: {text}")
    return False
