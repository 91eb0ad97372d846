"""Tell a cancellation of the running task from a cancelled error that a callee made up."""

from __future__ import annotations

import math

import anyio


def is_scope_cancelled() -> bool:
    """Whether a cancel scope around the running task is cancelled."""
    return anyio.current_effective_deadline() == -math.inf


def is_task_cancelled() -> bool:
    """Whether the running task is being cancelled, by a cancel scope or by `asyncio.Task.cancel`.

    To be asked with a cancelled error in hand, outside of scopes of one's own: False means that
    the callee raised the error by itself, for instance by awaiting something already cancelled.
    """
    if is_scope_cancelled():
        return True
    # A native asyncio cancellation (asyncio.timeout, wait_for, a web server's disconnect) sets no
    # cancel scope and is delivered only once: anyio cannot see it, and swallowing it would hang
    # the canceller.
    import asyncio

    try:
        task = asyncio.current_task()
    except RuntimeError:  # no asyncio loop is running: trio, whose cancellations are all scopes
        return False
    return task is not None and task.cancelling() > 0
