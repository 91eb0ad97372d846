"""Adapters that clients add while the server runs, and take away again."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from intrinsic.registry import AdapterEntry
from intrinsic.registry.entry import read_entry, with_fields
from intrinsic.registry.store.numbering import next_free
from intrinsic.server.envelope import ApiError
from intrinsic.server.folders import Folders
from intrinsic.system import System


class RuntimeAdapters:
    """Names that `load` gives to folders, for as long as the server runs; no database has them.

    One change at a time. Each load is a version of its own, so that no request ever gets the
    weights of another load under the same name and version.
    """

    def __init__(self, system: System, folders: Folders) -> None:
        self._system = system
        self._folders = folders
        self._loaded: dict[str, str] = {}  # `name@version` by name
        self._latest: dict[str, str] = {}  # the version that a name had last
        self._changing = anyio.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """What was loaded and not unloaded."""
        return tuple(self._loaded)

    async def load(self, name: str, path: str, *, in_place: bool = False) -> None:
        """Bring the adapter at `path` onto the device, and offer it under `name`.

        `in_place` puts it where an earlier `load` put another, also in the active mixture;
        requests that run finish with that one. Raises a 400 for a name that is taken, a 404 where
        there is no adapter, and what loading raises; then nothing has changed.
        """
        async with self._changing:
            former = self._former(name, in_place=in_place)
            folder = await self._folders.find(path)
            entry = await anyio.to_thread.run_sync(partial(self._entry, name, folder))
            await self._put_on(entry, former)
            self._loaded[name] = entry.key
            self._latest[name] = entry.card.version
            if former is not None:
                self._take_away(former)

    async def unload(self, name: str) -> None:
        """Offer an adapter no more; when its requests have ended, it leaves memory.

        One of the folder of adapters is back when the server starts again. Raises a 404 for an
        unknown name, a 409 for one that is in a registry's database.
        """
        async with self._changing:
            registry = self._system.registry
            keys = [self._loaded[name]] if name in self._loaded else self._versions(name)
            keys = [key for key in keys if registry.knows(key)]
            if not keys:
                raise ApiError(404, f"The lora adapter '{name}' cannot be found.")
            catalog = self._system.catalog
            if catalog is not None and any(catalog.id_of(key) is not None for key in keys):
                raise ApiError(
                    409,
                    f"adapter {name!r} is in the registry, and was not loaded by this call; switch "
                    f"it off with POST /v1/adapters/{name}/deactivate",
                )
            self._loaded.pop(name, None)
            for key in keys:
                self._take_away(key)

    def _former(self, name: str, *, in_place: bool) -> str | None:
        """What was loaded under that name. Raises a 400 where it may not be replaced."""
        registry = self._system.registry
        if not registry.knows(name):
            return None
        former = self._loaded.get(name)
        if former is None or not registry.knows(former):
            raise ApiError(
                400,
                f"The lora adapter '{name}' is there already, and was not loaded by this call; "
                "use another name",
            )
        if not in_place:
            raise ApiError(
                400,
                f"The lora adapter '{name}' has already been loaded. If you want to load the "
                "adapter in place, set 'load_inplace' to True.",
            )
        return former

    def _entry(self, name: str, folder: Path) -> AdapterEntry:
        entry = with_fields(read_entry(folder), {"name": name})
        if (latest := self._latest.get(name)) is None:
            return entry
        return with_fields(entry, {"version": next_free(latest, {entry.card.version})})

    async def _put_on(self, entry: AdapterEntry, former: str | None) -> None:
        """Offer an adapter that loads; else leave all as it was."""
        registry, manager = self._system.registry, self._system.manager
        if registry.knows(entry.key):  # since a moment ago
            raise ApiError(400, f"The lora adapter '{entry.key}' is there already")
        registry.put(entry, active=False)
        try:
            await manager.load(entry.key)
            active = manager.get_active_adapters()
            if former in active:
                await manager.set_active(
                    {entry.key if key == former else key: w for key, w in active.items()}
                )
        except BaseException:
            self._take_away(entry.key)
            raise
        registry.set_active(entry.key, True)

    def _take_away(self, key: str) -> None:
        """Forget an adapter now; it leaves memory when nobody holds it."""
        self._system.registry.remove_adapter(key)
        retire = partial(self._system.manager.retire, key)
        self._system.bus.start_background(retire)

    def _versions(self, name: str) -> list[str]:
        registry = self._system.registry
        versions = [entry.key for entry in registry.versions(name)]
        return versions or ([name] if registry.knows(name) else [])
