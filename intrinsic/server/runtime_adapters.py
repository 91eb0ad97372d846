"""Adapters that clients add while the server runs, and take away again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio

from intrinsic.backends import Capability
from intrinsic.errors import BusClosedError
from intrinsic.registry import AdapterEntry
from intrinsic.registry.entry import read_entry, with_fields
from intrinsic.registry.store.numbering import next_free
from intrinsic.server.envelope import ApiError
from intrinsic.server.folders import Folders
from intrinsic.system import System


class RuntimeAdapters:
    """Names that `load` gave to folders; they are gone when the server ends.

    A catalog's database is left alone. One change at a time.
    """

    def __init__(self, system: System, folders: Folders) -> None:
        self._system = system
        self._folders = folders
        self._loaded: dict[str, str] = {}  # `name@version` by name
        self._changing = anyio.Lock()

    async def load(self, name: str, path: str, *, in_place: bool = False) -> None:
        """Read and check the adapter at `path`, and offer it under `name`.

        `in_place` puts it where an earlier `load` put another: requests that run finish with that.
        Raises a 400 for a name that is taken, a 404 where there is no adapter, and what the
        adapter's files raise; then nothing has changed.
        """
        async with self._changing:
            registry = self._system.registry
            former = self._loaded.get(name)
            if former is not None and not registry.knows(former):  # somebody took it out
                former = None
            if registry.knows(name) and not (in_place and former is not None):
                self._refuse(name, former)
            folder = await self._folders.find(path)
            entry = await anyio.to_thread.run_sync(partial(self._entry, name, folder))
            await self._check(entry)
            self._loaded[name] = entry.key
            if former is not None:
                await self._replace(former, entry.key)

    async def unload(self, name: str) -> None:
        """Offer an adapter no more; its requests finish, then it leaves memory.

        Raises a 404 for an unknown name, a 409 for one of the catalog.
        """
        async with self._changing:
            registry = self._system.registry
            key = self._loaded.get(name, name)
            if not registry.knows(key):
                raise ApiError(404, f"The lora adapter {name!r} cannot be found.")
            if name not in self._loaded and self._system.catalog is not None:
                raise ApiError(
                    409,
                    f"adapter {name!r} belongs to the registry; switch it off with "
                    f"POST /v1/adapters/{name}/deactivate",
                )
            keys = [key] if name in self._loaded else self._keys(name)
            self._loaded.pop(name, None)
            for one in keys:
                registry.remove_adapter(one)
            for one in keys:
                await self._let_go(one)

    def _keys(self, name: str) -> list[str]:
        registry = self._system.registry
        return [entry.key for entry in registry.versions(name)] or [registry.get_adapter(name).key]

    def _entry(self, name: str, folder: Path) -> AdapterEntry:
        entry = with_fields(read_entry(folder), {"name": name})
        taken = {known.card.version for known in self._system.registry.versions(name)}
        if entry.card.version in taken:
            entry = with_fields(entry, {"version": next_free(entry.card.version, taken)})
        return entry

    async def _check(self, entry: AdapterEntry) -> None:
        """Offer an adapter that can be read and fits the model; else leave all as it was."""
        system = self._system
        registry = system.registry
        was_active = [e.key for e in registry.versions(entry.name) if registry.is_active(e.key)]
        registry.put(entry, active=False)
        try:
            if system.backend.supports(Capability.PREFETCH):
                await system.manager.prefetch([entry.key])
            else:
                await registry.demand_fit(entry.key)
                await system.manager.load(entry.key)
        except BaseException:
            registry.remove_adapter(entry.key)
            raise
        registry.set_active(entry.key, True)

    async def _replace(self, former: str, key: str) -> None:
        system = self._system
        active = system.manager.get_active_adapters()
        if former in active:
            weights = {key if one == former else one: w for one, w in active.items()}
            await system.manager.set_active(weights)
        system.registry.remove_adapter(former)
        await self._let_go(former)
