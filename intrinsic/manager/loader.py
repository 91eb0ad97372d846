"""Brings adapters onto the device and takes them off, one change at a time, all or nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import anyio

from intrinsic.backends import ModelBackend
from intrinsic.errors import AdapterInUseError, AdapterNotLoadedError, CapacityError
from intrinsic.manager.device import Device, Notify
from intrinsic.manager.early_warning import EarlyWarning
from intrinsic.manager.exchange import Exchange, OutgrownError
from intrinsic.manager.host_copies import HostCopies
from intrinsic.manager.options import ManagerOptions
from intrinsic.manager.room import MergedError, Room
from intrinsic.manager.stats import Counts
from intrinsic.manager.turn import Turn
from intrinsic.registry import AdapterRegistry


class AdapterLoader:
    """Owns the slots. Room is found and newcomers are checked before anything is evicted.

    newcomers ─▶ read and checked ─▶ victims chosen, and waited for ─▶ exchange ─▶ leases
                 (host memory)       (by slots and by bytes)           (all or nothing)
    """

    def __init__(
        self,
        backend: ModelBackend,
        registry: AdapterRegistry,
        options: ManagerOptions,
        notify: Notify,
    ) -> None:
        self.registry = registry
        self.options = options
        self.counts = Counts()
        self.host = HostCopies(backend, registry, options.max_host_bytes)
        self._device = Device(backend, registry, self.host, self.counts, notify)
        self.table = self._device.table
        self._room = Room(self.table, options, lambda: self.max_loaded)
        self._exchange = Exchange(self._device, self._room)
        self._turn = Turn(options.wait_timeout_s)
        self._prefetched: set[str] = set()
        self._warnings = EarlyWarning("on the device"), EarlyWarning("in host memory")

    @property
    def max_loaded(self) -> int:
        """How many adapters may be on the device at once."""
        return self.options.max_loaded or self.registry.max_loaded

    async def hold(self, keys: Collection[str], *, wait: bool = True) -> None:
        """Have all adapters on the device, and count a lease on each; `release` gives it back.

        Raises `CapacityError` where there is no room (at once unless `wait`), and what loading
        raises; then nothing has changed.
        """
        self._count(keys)
        if self.table.can_hold(keys) and not self._stale(keys):
            self.table.hold(keys)
            return
        async with self._turn.taken():
            await self._bring(keys, wait=wait)
            self.table.hold(keys)
        try:
            await self._device.tell()
        except BaseException:
            self.release(keys)
            raise

    def release(self, keys: Collection[str]) -> None:
        """Give the leases of `hold` back."""
        self.table.release(keys)
        self._room.note_release()

    def note_merged(self, keys: Collection[str]) -> None:
        """Note which adapters are in the weights, and wake who waits for their leases to end."""
        for key in self.table:
            self.table[key].merged = key in keys
        self._room.note_release()

    async def load(self, keys: Collection[str], *, wait: bool = True, pin: bool = False) -> None:
        """Have all adapters on the device, without holding them; pinned, if asked for."""
        await self.hold(keys, wait=wait)
        for key in keys:
            self.table[key].pinned |= pin  # before others may have it
        self.release(keys)

    async def prefetch(self, keys: Collection[str]) -> None:
        """Have all in host memory, and on the device those for which there is room right now."""
        errors: list[Exception] = []
        for key in keys:
            try:
                await self._prefetch(key)
            except Exception as error:
                errors.append(error)
        await self._device.tell()
        if errors:
            for other in errors[1:]:
                errors[0].add_note(f"and {type(other).__name__}: {other}")
            raise errors[0]

    async def unload(self, key: str) -> None:
        """Wait for an adapter's requests to end and take it off the device.

        Raises `AdapterNotLoadedError`, `AdapterInUseError` after `wait_timeout_s`, or `MergedError`
        at once.
        """
        async with self._turn.taken():
            if key not in self.table:
                raise AdapterNotLoadedError(
                    f"adapter {key!r} is not loaded; loaded: {', '.join(self.table) or 'none'}"
                )
            try:
                await self._room.drain([key])
            except MergedError:
                raise
            except CapacityError as error:
                raise AdapterInUseError(str(error)) from None
            await self._evict_closed([key], "unloaded")
            self._warn()
        await self._device.tell()

    async def unload_if_idle(self, key: str, *, patient: bool = False) -> None:
        """Take an adapter off the device unless a request holds it."""
        async with self._turn.taken(patient=patient):
            if key in self.table and not self.table[key].leases:
                await self._evict_closed([key], "unloaded")
            self._warn()
        await self._device.tell()

    def forget(self, key: str) -> None:
        """Let an adapter that is not on the device go from host memory too."""
        self._prefetched.discard(key)
        self._device.sizes.pop(key, None)
        self.host.forget(key)
        self._warn()

    async def discard(self, key: str) -> bool:
        """Take an adapter out of device and host memory if that is possible right now."""
        with self._turn.taken_nowait() as taken:
            if not taken:
                return False
            if key in self.table:
                slot = self.table[key]
                if slot.leases or slot.pinned:
                    return False
                await self._evict_closed([key], "discarded")
            self.forget(key)
        await self._device.tell()
        return True

    async def wait_if_held(self, key: str) -> None:
        """Return when some lease has ended, or a merge has; at once if nobody holds."""
        if self.table[key].leases:
            await self._room.wait_for_release()

    async def _bring(self, keys: Collection[str], *, wait: bool) -> None:
        stale = self._stale(keys)
        await self._room.drain(stale, wait=wait)
        pinned = [key for key in stale if self.table[key].pinned]
        await self._evict_closed(stale, "its files were replaced")
        newcomers = [key for key in keys if key not in self.table]
        if not newcomers:
            return
        if len(keys) > self.max_loaded:
            raise CapacityError(
                f"a mixture of {len(keys)} adapters does not fit max_loaded={self.max_loaded}; "
                "use fewer or raise it"
            )
        for key in newcomers:
            await self.registry.demand_fit(key)
        try:
            await self._replace(newcomers, keep=keys, wait=wait)
        except OutgrownError:  # the sizes are known by now
            await self._replace(newcomers, keep=keys, wait=wait)
        for key in pinned:
            self.table[key].pinned = True
        self._warn()

    async def _replace(
        self, newcomers: Sequence[str], *, keep: Collection[str], wait: bool
    ) -> None:
        checked = await self._measure(newcomers)
        more_bytes = sum(self._device.sizes.get(key, 0) for key in newcomers)
        victims = await self._room.make(len(newcomers), more_bytes, keep=keep, wait=wait)
        try:
            with anyio.CancelScope(shield=True):
                await self._exchange.run(newcomers, victims, keep=keep, checked=checked)
        finally:
            self._room.reopen(victims)

    async def _measure(self, newcomers: Sequence[str]) -> bool:
        """Read and check what has a budget of bytes; whether the sizes are known for that."""
        if self.options.max_bytes is None or not self.host.keeps:
            return False
        for key in newcomers:
            size = await self.host.bring(key)
            self._device.sizes[key] = max(size, self._device.sizes.get(key, 0))
        return True

    async def _prefetch(self, key: str) -> None:
        if key in self.table and not self._stale([key]):
            return
        await self.registry.demand_fit(key)
        brought = False
        if self.host.keeps:
            held = self.host.holds(key)
            self._device.sizes[key] = await self.host.bring(key)
            brought = not held and self.host.holds(key)
        with self._turn.taken_nowait() as taken:
            if taken and key not in self.table:
                brought |= await self._fill_free_slot(key)
        if brought:
            self.counts.prefetches += 1
            self._prefetched.add(key)
        self._warn()

    async def _fill_free_slot(self, key: str) -> bool:
        """Put an adapter on the device as the first to go, if that takes nothing from others."""
        size = self._device.sizes.get(key)
        if size is None and self.options.max_bytes is not None:
            return False
        if not self._room.is_free(size or 0):
            return False
        with anyio.CancelScope(shield=True):
            infos = await self._device.put_on([key])
            if self._room.excess_bytes(infos[key].bytes_used) > 0:
                await self._device.discard(infos)
                return False
        self._device.add(key, infos[key], used=False)
        return True

    async def _evict_closed(self, keys: Sequence[str], reason: str) -> None:
        """Evict what nobody holds, with no new leases meanwhile."""
        self._room.close(keys)
        try:
            for key in keys:
                await self._device.evict(key, reason)
        finally:
            self._room.reopen(keys)

    def _count(self, keys: Collection[str]) -> None:
        missing = [key for key in keys if key not in self.table]
        self.counts.hits += len(keys) - len(missing)
        self.counts.misses += len(missing)
        for key in self._prefetched.intersection(keys):
            self._prefetched.discard(key)
            self.counts.prefetches_used += key in self.table or self.host.holds(key)

    def is_stale(self, keys: Collection[str]) -> bool:
        """Whether one of them is on the device from files that its name no longer means."""
        return bool(self._stale(keys))

    def _stale(self, keys: Collection[str]) -> list[str]:
        """Loaded adapters under whose name and version other files are registered by now."""
        return [
            key
            for key in keys
            if key in self.table
            and self.registry.knows(key)
            and str(self.registry.get_adapter(key).path) != self.table[key].path
        ]

    def _warn(self) -> None:
        device, host = self._warnings
        device.note(self.table.bytes_used, self.options.max_bytes)
        memory = self.host.memory()
        host.note(memory.bytes_used, memory.max_bytes)
