"""`intrinsic serve`: from settings to the exit, with nothing lost on the way."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from intrinsic.config.settings import Settings
from intrinsic.errors import ConfigError
from intrinsic.server.http_server import HttpServer
from intrinsic.server.keys import KeyFile, Keys
from intrinsic.server.listener import bind, listen, url_of
from intrinsic.server.neighbours import told_of_others
from intrinsic.server.service import Service
from intrinsic.server.tracer import make_tracing
from intrinsic.system import System, Tell, open_system

logger = logging.getLogger("intrinsic.server")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_PATIENCE = 2
"""After so many signals the next one is obeyed whatever it costs."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What can be wrong is found before the model is loaded. `new_keys` were made just now."""

    listener: socket.socket
    keys: Keys | None
    new_keys: bool
    key_file: Path | None

    @property
    def url(self) -> str:
        """Where clients on this machine reach it."""
        return url_of(self.listener)


def prepare(settings: Settings, default_key_file: Path | None) -> Prepared:
    """Take the address and open the keys. Raises `ConfigError`."""
    options = settings.server_options()
    _check_stats_file(options.stats_file)
    keys, made, path = None, False, None
    if options.admin_key is not None and options.api_key is not None:
        keys = Keys(options.admin_key, options.api_key)
    elif options.auth:
        path = options.key_file or default_key_file
        if path is None:
            raise ConfigError("there is no home to keep keys in; name a file with --key-file")
    listener = bind(options.host, options.port)  # before keys are made for nothing
    try:
        if path is not None:
            path = path.expanduser()
            keys, made = KeyFile(path).open()
    except BaseException:
        listener.close()
        raise
    return Prepared(listener, keys if options.auth else None, made, path)


def _check_stats_file(path: Path | None) -> None:
    if path is None:
        return
    file = path.expanduser().absolute()
    if file.is_dir() or not os.access(file.parent, os.W_OK):
        raise ConfigError(
            f"statistics cannot be written to {path}; name a file in a folder that is there and "
            "can be written"
        )


async def run_service(
    settings: Settings,
    prepared: Prepared,
    *,
    ready: Callable[[Service], object],
    tell: Tell = logger.warning,
    loaded: Callable[[], object] = lambda: None,
) -> None:
    """Load everything and serve until a signal says to stop.

    The first one takes no more requests and lets those that run end within `grace_s`; the second
    ends them at once; the third ends the process. Before clients are answered, which `ready` is
    told, the first one ends the start. Raises as `open_system` does.
    """
    options = settings.server_options()
    with prepared.listener as listener:
        tracing = make_tracing(options.trace_endpoint)
        async with (
            _stopped_by_signals() as stops,
            open_system(settings, tell=tell, loaded=loaded) as system,
        ):
            service = Service(system, options, prepared.keys, tracing)
            try:
                with told_of_others(_registry_file(system), prepared.url) as other:
                    if other is not None:
                        tell(
                            f"{other} serves the same registry already; they share it: what is "
                            "changed in one, the other takes over within a second or so"
                        )
                    listen(listener)
                    server = HttpServer(service, listener)
                    stops(server)
                    await server.run(ready=lambda: ready(service))
            finally:
                await _tell_statistics(service)
                await service.close()


@asynccontextmanager
async def _stopped_by_signals() -> AsyncIterator[Callable[[HttpServer], None]]:
    """Obey signals until the block has ended and all is closed.

    Yields what takes the server that they stop; before there is one, they end the block.
    """
    servers: list[HttpServer] = []
    errors: list[Exception] = []
    block = anyio.CancelScope()

    async def listen_for_signals() -> None:
        with anyio.open_signal_receiver(*_SIGNALS) as signals:
            listening.set()
            count = 0
            async for number in signals:
                count += 1
                if count > _PATIENCE:
                    logger.error("ended by a third signal, as it is")
                    os._exit(128 + number)
                logger.info("%s: stopping", signal.Signals(number).name)
                for server in servers:
                    server.stop()
                if not servers:
                    block.cancel()

    listening = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen_for_signals)
        await listening.wait()
        with block:
            try:
                yield servers.append
            except Exception as error:
                errors.append(error)
        tasks.cancel_scope.cancel()
    if errors:
        raise errors[0]


async def _tell_statistics(service: Service) -> None:
    """Write what was done to the log, and to the file that is named for it."""
    counted = service.metrics.statistics()
    logger.info("served", extra={"fields": counted})
    path = service.options.stats_file
    if path is None:
        return
    text = json.dumps(counted, indent=2) + "\n"
    with anyio.CancelScope(shield=True):
        try:
            await anyio.Path(path.expanduser()).write_text(text)
        except OSError as error:
            logger.error("statistics cannot be written to %s: %s", path, error.strerror or error)


def _registry_file(system: System) -> Path | None:
    return None if system.catalog is None else system.catalog.database.file
