"""The same done to many things in worker threads, a few at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread

_A = TypeVar("_A")
_B = TypeVar("_B")

Progress = Callable[[int, int], None]
"""Is told how many of how many are done, from the event loop."""

THREADS = max(2, min(4, os.cpu_count() or 1))


async def side_by_side(
    function: Callable[[_A], _B], items: Sequence[_A], progress: Progress | None = None
) -> list[_B]:
    """Call a function with each item, in threads, and return the answers in the items' order.

    What it raises ends all, when those under way have ended.
    """
    answers: dict[int, _B] = {}
    limiter = anyio.CapacityLimiter(THREADS)
    turns = iter(range(len(items)))

    async def work() -> None:
        for at in turns:
            call = partial(function, items[at])
            answers[at] = await anyio.to_thread.run_sync(call, limiter=limiter)
            if progress is not None:
                progress(len(answers), len(items))

    async with anyio.create_task_group() as tasks:
        for _ in range(min(THREADS, len(items))):
            tasks.start_soon(work)
    return [answers[at] for at in range(len(items))]
