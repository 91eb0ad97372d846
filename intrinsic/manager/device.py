"""The adapters on the device: put on, taken off, written down, and plugins told."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection

import anyio

from intrinsic.backends import AdapterInfo, ModelBackend
from intrinsic.errors import AdapterInUseError, CapacityError
from intrinsic.manager.host_copies import HostCopies
from intrinsic.manager.stats import Counts
from intrinsic.manager.table import SlotTable
from intrinsic.registry import AdapterRegistry

logger = logging.getLogger("intrinsic.manager")

Notify = Callable[..., Awaitable[None]]


class Device:
    """Keeps the table of slots true to what the backend has; the caller has the turn.

    `sizes` are the bytes of adapters by key, as far as they are known.
    """

    def __init__(
        self,
        backend: ModelBackend,
        registry: AdapterRegistry,
        host: HostCopies,
        counts: Counts,
        notify: Notify,
    ) -> None:
        self.table = SlotTable()
        self.sizes: dict[str, int] = {}
        self._paths: dict[str, str] = {}
        self._backend = backend
        self._registry = registry
        self._host = host
        self._counts = counts
        self._notify = notify
        self._notices: list[tuple[str, dict[str, object]]] = []

    async def put_on(self, keys: Collection[str]) -> dict[str, AdapterInfo]:
        """Load all, or none; they enter the table with `add`."""
        infos: dict[str, AdapterInfo] = {}
        try:
            for key in keys:
                path = self._paths[key] = self._host.path_of(key)
                infos[key] = await self._backend.load_lora_adapter(path, key)
                self.sizes[key] = infos[key].bytes_used
                self._counts.load_ms += infos[key].load_ms
        except BaseException:
            await self.discard(infos)
            raise
        return infos

    async def discard(self, keys: Collection[str]) -> None:
        """Take newcomers off again; a cancellation meanwhile does not leave one behind."""
        cancelled: BaseException | None = None
        for key in keys:
            try:
                await self._backend.unload_lora_adapter(key)
            except anyio.get_cancelled_exc_class() as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    def add(self, key: str, info: AdapterInfo, *, used: bool = True) -> None:
        """Give a newcomer its slot, as the most recently used or as the first to go."""
        # Not the registry's path: it may have lost the adapter, or have another, meanwhile.
        self.table.add(key, info, self._paths.pop(key), used=used)
        self._registry.mark_loaded(key)
        self._notices.append(("on_adapter_loaded", {"adapter": key, "load_ms": info.load_ms}))

    async def take_off(self, key: str) -> None:
        """Empty a slot, which stays; the backend ends what it began, even if it is cancelled."""
        try:
            with anyio.CancelScope(shield=True):
                await self._backend.unload_lora_adapter(key)
        except AdapterInUseError as error:
            raise CapacityError(f"no room: {error}") from None
        except anyio.get_cancelled_exc_class():
            self.table[key].off = True
            raise
        self.table[key].off = True

    async def bring_back(self, keys: Collection[str]) -> None:
        """Fill the slots again that were emptied; one that cannot be is evicted in words."""
        cancelled: BaseException | None = None
        for key in keys:
            slot = self.table[key]
            if not slot.off:
                continue
            try:
                slot.info = await self._backend.load_lora_adapter(slot.path, key)
                slot.off = False
            except anyio.get_cancelled_exc_class() as error:
                cancelled = error
                self.forget(key, "no room")
            except Exception as error:
                logger.warning("adapter %s made room in vain and is not back: %s", key, error)
                self.forget(key, "no room")
        if cancelled is not None:
            raise cancelled

    async def evict(self, key: str, reason: str) -> None:
        """Take an adapter off and forget its slot."""
        try:
            await self.take_off(key)
        finally:
            if self.table[key].off:
                self.forget(key, reason)

    def forget(self, key: str, reason: str) -> None:
        """Note that an adapter has left."""
        self.table.remove(key)
        self._registry.mark_unloaded(key)
        self._counts.evictions += reason == "no room"
        self._notices.append(("on_adapter_evicted", {"adapter": key, "reason": reason}))

    async def tell(self) -> None:
        """Tell plugins what changed, after the turn: a hook may ask the manager for more."""
        while self._notices:
            hook, arguments = self._notices.pop(0)
            await self._notify(hook, **arguments)
