"""A word in the log when a tier gets nearly full, once each time."""

from __future__ import annotations

import logging

logger = logging.getLogger("intrinsic.manager")

_WARN_AT, _CALM_BELOW = 0.8, 0.6


class EarlyWarning:
    """Warns when bytes reach 80 % of their budget, and not again before they fell below 60 %.

    A busy tier swings by an adapter with each exchange; that is one state, not many crossings.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._reached = False

    def note(self, bytes_used: int, max_bytes: int | None) -> None:
        """Look at the bytes after a change; a budget of None or 0 is none."""
        share = bytes_used / max_bytes if max_bytes else 0.0
        if share >= _WARN_AT and not self._reached:
            logger.warning("adapters take %d of %d bytes %s", bytes_used, max_bytes, self._where)
        self._reached = share >= (_CALM_BELOW if self._reached else _WARN_AT)
