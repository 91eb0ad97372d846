"""A word in the log when a tier gets nearly full, once each time."""

from __future__ import annotations

import logging

logger = logging.getLogger("intrinsic.manager")

_WARN_AT = 0.8


class EarlyWarning:
    """Warns when bytes reach 80 % of their budget, and not again before they fell below it."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._reached = False

    def note(self, bytes_used: int, max_bytes: int | None) -> None:
        """Look at the bytes after a change; a budget of None or 0 is none."""
        reached = bool(max_bytes) and bytes_used >= _WARN_AT * (max_bytes or 0)
        if reached and not self._reached:
            logger.warning("adapters take %d of %d bytes %s", bytes_used, max_bytes, self._where)
        self._reached = reached
