"""The service behind an open socket: from the first request to the last, and the end."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable, Generator

import anyio
import uvicorn

from intrinsic.server.app import make_app
from intrinsic.server.service import Service

logger = logging.getLogger("intrinsic.server")

KEEP_ALIVE_S = 75
"""Longer than clients keep a connection that they do not use, so that they close it, not we."""
_LAST_WORDS_S = 5
_AGAIN_S = 10.0


class HttpServer:
    """Answers requests on a socket that listens, which it closes, until `stop` is called."""

    def __init__(self, service: Service, listener: socket.socket) -> None:
        self._service = service
        self._listener = listener
        # Connections have it from here. asyncio sets it for sockets that say that they are TCP
        # alone, which this one does not; without it an answer's body waits 40 ms for its headers.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._grace: anyio.CancelScope | None = None
        self._hurry = False
        self._uvicorn = _Server(
            uvicorn.Config(
                make_app(service),
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=_LAST_WORDS_S,
            )
        )

    async def run(self, *, ready: Callable[[], object] = lambda: None) -> None:
        """Serve; comes back when the last request has ended. `ready` is called when it answers."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow_registry)
            tasks.start_soon(self._end)
            self._uvicorn.ready = ready
            await self._uvicorn.serve([self._listener])
            tasks.cancel_scope.cancel()

    def stop(self) -> None:
        """Take no more requests, and end when those that run have; again: end them at once."""
        running = self._service.running
        if running.is_stopping:
            self._hurry = True
            if self._grace is not None:
                self._grace.cancel()
        running.stop()

    async def _end(self) -> None:
        running = self._service.running
        await running.stopping.wait()
        with anyio.move_on_after(self._service.options.grace_s) as self._grace:
            if self._hurry:
                self._grace.cancel()
            await running.wait_until_idle()
        cut_off = running.cancel()
        if cut_off:
            logger.warning("%d requests did not end in time and were cut off", cut_off)
        self._uvicorn.should_exit = True

    async def _follow_registry(self) -> None:
        """Take over what other processes change in the registry, where there is one.

        What they switch off leaves memory.
        """
        catalog = self._service.system.catalog
        if catalog is None:
            return
        from intrinsic.manager.life_cycle import LifeCycle

        cycle = LifeCycle(catalog, self._service.system.manager)
        while True:
            try:
                await cycle.follow()
            except Exception:  # the requests go on under what is known
                logger.exception("the registry is not followed for now")
                await anyio.sleep(_AGAIN_S)


class _Server(uvicorn.Server):
    """Leaves signals to its caller."""

    ready: Callable[[], object]

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready()
