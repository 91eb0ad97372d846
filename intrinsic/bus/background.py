"""Work beside the events: it belongs to the bus, and no event waits for it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from intrinsic.bus.frames import borrowed_thread, current

logger = logging.getLogger("intrinsic.bus")

Work = Callable[[], Awaitable[None]]


async def run_beside(work: Work) -> None:
    """Do the work outside of every event; what it raises is logged, and harms nobody else."""
    current.set(None)
    borrowed_thread.set(None)
    try:
        await work()
    except Exception:
        logger.exception("work in the background of a bus failed")
