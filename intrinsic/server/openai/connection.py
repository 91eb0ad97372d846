"""Work that is of use only while its client listens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from starlette.types import Receive


async def while_connected(receive: Receive, work: Callable[[], Awaitable[None]]) -> bool:
    """Do the work; where the client leaves before, it is cancelled, and False comes back.

    An error of the work is raised as it is.
    """
    done, errors = False, list[Exception]()

    async def listen() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        try:
            await work()
            done = True
        except Exception as error:
            errors.append(error)
        tasks.cancel_scope.cancel()
    if errors:
        raise errors[0]
    return done


async def side_by_side(works: list[Callable[[], Awaitable[None]]]) -> None:
    """Do all at once; the first error ends the others and is raised as it is."""
    if len(works) == 1:
        await works[0]()
        return
    errors = list[Exception]()

    async def guarded(work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:
            errors.append(error)
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for work in works:
            tasks.start_soon(guarded, work)
    if errors:
        raise errors[0]
