"""Adapters switched on and off while requests run: offered and brought near, drained and let go."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import anyio

from intrinsic.backends import Capability
from intrinsic.errors import IntrinsicError
from intrinsic.manager.manager import AdapterManager
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.following import follow
from intrinsic.registry.store.records import VersionRecord

logger = logging.getLogger("intrinsic.manager")


@dataclass(frozen=True, slots=True)
class Activation:
    """A version that routing may choose from now on, and where its weights are.

    `near` is "device", "host" or "", and then `why` says why they are not in memory.
    """

    record: VersionRecord
    near: Literal["device", "host", ""]
    why: str = ""


class LifeCycle:
    """Switches versions of a catalog, and has the manager's memory follow.

    The catalog must be open; its `live` registry must be the manager's.
    """

    def __init__(self, catalog: AdapterCatalog, manager: AdapterManager) -> None:
        self.catalog = catalog
        self.manager = manager

    async def activate(self, key: str, *, only: bool = True, preload: bool = True) -> Activation:
        """Offer a version to routing from the next request on, and bring it near.

        Other versions of its name are switched off, unless `only` is false. It is pre-loaded where
        the budgets allow without evicting anybody; where not, the first request loads it. Raises
        `AdapterNotFoundError`, and `IncompatibleAdapterError` for one that is for another model;
        then nothing has changed.
        """
        record = await self.catalog.get(key)
        if self.catalog.id_of(record.key) != record.id:  # another process registered it
            await self.catalog.refresh()
        await self.catalog.live.demand_fit(record.key)
        record = await self.catalog.activate(record.key, only=only)
        why = await self._bring(record.key) if preload else "it was not asked to be pre-loaded"
        if record.key in self.catalog.live.loaded_adapters:
            return Activation(record, "device")
        if record.key in self.manager.get_near_adapters():
            return Activation(record, "host", why)
        return Activation(record, "", why or "there is no room for it that is free")

    async def deactivate(self, key: str) -> VersionRecord:
        """Offer a version to routing no more; return when it has left memory.

        Requests that run finish with it, however long that takes; whoever does not want to wait
        calls this in a task. One that is activated again meanwhile stays. Raises
        `AdapterNotFoundError`.
        """
        record = await self.catalog.deactivate(key)
        await self._let_go(record.key)
        return record

    async def delete(self, key: str) -> VersionRecord:
        """Make a version unusable for ever, and return when it has left memory."""
        record = await self.catalog.delete(key)
        await self.manager.retire(record.key)
        return record

    async def rename(self, name: str, new_name: str) -> tuple[VersionRecord, ...]:
        """Give all versions of a name another one; what is in memory as the old one leaves it.

        Raises as `AdapterCatalog.rename` does.
        """
        before = {key for key in self.manager.get_near_adapters() if key.startswith(f"{name}@")}
        renamed = await self.catalog.rename(name, new_name)
        for key in sorted(before):
            await self.manager.retire(key)
        return renamed

    async def follow(self, *, every_s: float = 1.0) -> None:
        """Take over what other processes change, as it happens; ends when cancelled.

        What they switch off, delete or rename leaves memory when its requests have ended. See
        `registry.following.follow`.
        """
        live = self.catalog.live
        offered = {entry.key for entry in live.list_adapters()}

        def look(_: int) -> None:
            nonlocal offered
            for key in offered & self.manager.get_near_adapters():
                if not live.is_active(key):
                    tasks.start_soon(self._let_go, key)
            offered = {entry.key for entry in live.list_adapters()}

        async with anyio.create_task_group() as tasks:
            await follow(self.catalog, every_s=every_s, heard=look)

    async def _let_go(self, key: str) -> None:
        await self.manager.retire(key, unless=lambda: self.catalog.live.is_active(key))

    async def _bring(self, key: str) -> str:
        """Pre-load an adapter; say why that was not done."""
        if not self.manager.backend.supports(Capability.PREFETCH):
            return f"backend {self.manager.backend.name!r} cannot prefetch adapters"
        try:
            await self.manager.prefetch([key])
        except (IntrinsicError, OSError) as error:
            logger.warning("adapter %s is active, but could not be pre-loaded: %s", key, error)
            return str(error)
        return ""
