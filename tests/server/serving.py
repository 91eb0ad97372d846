"""A real server over a tiny model, on a real socket, in a thread of its own."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import httpx

from intrinsic.backends import ModelBackend
from intrinsic.backends.transformers_backend import TransformersBackend
from intrinsic.config import load_settings
from intrinsic.config.server_options import ServerOptions
from intrinsic.hookspecs import hookimpl
from intrinsic.registry import AdapterRegistry
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.registering import Newcomer
from intrinsic.server.http_server import HttpServer
from intrinsic.server.keys import Keys
from intrinsic.server.service import Service
from intrinsic.server.tracing import Tracing
from intrinsic.system import System
from intrinsic.wiring import make_plugins, setup_weight_interface
from tests import tiny
from tests.wiring.test_wiring import ByLetter

KEYS = Keys(admin_key="admin-key-of-the-tests", api_key="plain-key-of-the-tests")
ADAPTERS = "abcd"
"""The names of the adapters; a request is routed to those whose name is a word of it."""
_LONGEST_S = 30.0


@dataclass
class Served:
    """A server that answers. `call` runs a function on its event loop."""

    url: str
    service: Service
    server: HttpServer
    portal: anyio.from_thread.BlockingPortal = field(repr=False)
    admin_key: str = KEYS.admin_key
    api_key: str = KEYS.api_key

    def client(self, *, key: str | None = KEYS.api_key, **options: Any) -> httpx.Client:
        """A client with a key, the plain one unless given; None is without."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=_LONGEST_S, **options)

    def admin(self, **options: Any) -> httpx.Client:
        """A client with the admin key."""
        return self.client(key=self.admin_key, **options)

    def call(self, function: Any, *args: Any) -> Any:
        """Call a function, plain or async, on the server's event loop."""
        return self.portal.call(function, *args)


@asynccontextmanager
async def tiny_system(
    folder: Path,
    *,
    flags: Mapping[str, object] | None = None,
    backend: ModelBackend | None = None,
    catalog: bool = False,
    plugins: tuple[object, ...] = (),
    context: int = 512,
) -> AsyncIterator[System]:
    """A tiny Llama with a chat template and adapters `a` to `d`; `flags` are settings.

    Its tokens are single characters; adapter and weights are of the same seed in every call.
    """
    said = {"routing.router": "letter", "manager.max_loaded": len(ADAPTERS)}
    settings = load_settings({**said, **(flags or {})}, environ={}, cwd=folder)
    model = tiny.llama()
    model.config.max_position_embeddings = context
    adapters = folder / "adapters"
    for seed, name in enumerate(ADAPTERS, 1):
        if not (adapters / name).exists():
            card = {
                "name": name,
                "domain": f"letter {name}",
                "description": f"Answers what has the word {name}.",
            }
            tiny.write_adapter(adapters / name, model, seed=seed, card=card)
    found = make_plugins()
    for plugin in (_Letters(), *plugins):
        found.register(plugin)
    async with AsyncExitStack() as stack:
        registry: AdapterRegistry | AdapterCatalog = AdapterRegistry.from_folder(adapters)
        bus = settings.bus(plugins=found)
        opened = None
        if catalog:
            opened = await stack.enter_async_context(
                AdapterCatalog(folder / "adapters.db", bus=bus)
            )
            for name in ADAPTERS:
                await opened.register(Newcomer(adapters / name, base_model="tiny-llama"))
            registry = opened
        made = backend or TransformersBackend(model, tiny.tokenizer(chat=True), name="tiny-llama")
        manager, router = setup_weight_interface(
            bus,
            made,
            registry,
            settings.embedder(found),
            options=settings.wiring_options(),
            plugins=found,
        )
        await stack.enter_async_context(bus)
        yield System(settings, bus, made, manager.registry, opened, manager, router, found)


@contextmanager
def serving(
    folder: Path,
    *,
    options: ServerOptions | None = None,
    keys: Keys | None = KEYS,
    tracing: Tracing | None = None,
    **system: Any,
) -> Iterator[Served]:
    """Serve a tiny system, see `tiny_system`, on a free port until the block ends."""
    chosen = options or ServerOptions(port=0, grace_s=2.0, folders=(folder / "adapters",))
    with anyio.from_thread.start_blocking_portal("asyncio") as portal:
        opened = _opened(folder, chosen, keys, tracing or Tracing(), system)
        with portal.wrap_async_context_manager(opened) as (service, server, port):
            yield Served(f"http://127.0.0.1:{port}", service, server, portal)


@asynccontextmanager
async def _opened(
    folder: Path,
    options: ServerOptions,
    keys: Keys | None,
    tracing: Tracing,
    system: Mapping[str, Any],
) -> AsyncIterator[tuple[Service, HttpServer, int]]:
    listener = socket.create_server(("127.0.0.1", 0))
    async with tiny_system(folder, **system) as opened:
        service = Service(opened, options, keys, tracing)
        server, ready = HttpServer(service, listener), anyio.Event()
        async with anyio.create_task_group() as tasks:

            async def run() -> None:
                await server.run(ready=ready.set)

            tasks.start_soon(run)
            await ready.wait()
            try:
                yield service, server, listener.getsockname()[1]
            finally:
                server.stop()
                server.stop()
        await service.close()


class _Letters:
    """Gives the router `letter`."""

    @hookimpl
    def register_routers(self) -> Mapping[str, Any]:
        return {"letter": lambda embedder: ByLetter()}
