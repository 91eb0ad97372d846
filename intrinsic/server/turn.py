"""A turn in the queue, for as long as the client waits for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import anyio
from fastapi import Request

from intrinsic.server.envelope import ApiError
from intrinsic.server.service import service_of

LEFT = 499
"""The status, seen in the log alone, of a request whose client left before it was answered."""


@asynccontextmanager
async def turn(request: Request, place: AbstractAsyncContextManager[None]) -> AsyncIterator[None]:
    """Run the block in a place of the queue; a client that leaves before gives up its place.

    What has begun is done to its end. Raises what the queue raises.
    """
    has_left = False
    refused: ApiError | None = None

    async def listen() -> None:
        nonlocal has_left
        while (await request.receive())["type"] != "http.disconnect":
            pass
        has_left = True
        tasks.cancel_scope.cancel()

    async with AsyncExitStack() as held:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            try:
                await held.enter_async_context(place)
            except ApiError as error:
                refused = error
            tasks.cancel_scope.cancel()
        if has_left:
            service_of(request).metrics.ended_early("disconnected")
            refused = ApiError(LEFT, "the client left before its turn came")
        if refused is not None:
            raise refused
        yield
