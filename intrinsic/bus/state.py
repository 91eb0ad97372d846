"""Where a bus stands in its life, and who brings it an event."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where a bus stands in its life."""

    NEW = "was not entered; use it inside 'async with'"
    OPEN = "is open"
    DRAINING = "is being left; only its own handlers may still publish"
    CLOSED = "was left; build a new one"


class Source(Enum):
    """Who brings an event, and so who keeps what is not delivered when it is cancelled."""

    CALLER = "publish: the caller knows that it was cancelled"
    QUEUE = "publish_nowait: handlers that were cut short get dead letters"
    FLUSH = "flush: it is put back whole or, once a handler has ended, as QUEUE"
