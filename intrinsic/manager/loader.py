"""Brings adapters onto the device and takes them off, one change at a time, all or nothing."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection

import anyio

from intrinsic.backends import AdapterInfo, ModelBackend
from intrinsic.errors import AdapterInUseError, AdapterNotLoadedError, CapacityError
from intrinsic.manager.options import ManagerOptions
from intrinsic.manager.table import SlotTable
from intrinsic.manager.turn import Turn
from intrinsic.registry import AdapterRegistry

logger = logging.getLogger("intrinsic.manager")

Notify = Callable[..., Awaitable[None]]
_WARN_AT = 0.8


class AdapterLoader:
    """Owns the slots. Room is found and newcomers are checked before anything is evicted."""

    def __init__(
        self,
        backend: ModelBackend,
        registry: AdapterRegistry,
        options: ManagerOptions,
        notify: Notify,
    ) -> None:
        self.table = SlotTable()
        self.hits = 0
        self.misses = 0
        self.evictions = 0
        self._backend = backend
        self._registry = registry
        self._options = options
        self._notify = notify
        self._turn = Turn(options.wait_timeout_s)
        self._notices: list[tuple[str, dict[str, object]]] = []
        self._released = anyio.Event()

    @property
    def max_loaded(self) -> int:
        """How many adapters may be on the device at once."""
        return self._options.max_loaded or self._registry.max_loaded

    async def hold(self, keys: Collection[str], *, wait: bool = True) -> None:
        """Have all adapters on the device, and count a lease on each; `release` gives it back.

        Raises `CapacityError` where there is no room (at once unless `wait`), and what loading
        raises; then nothing has changed.
        """
        missing = [key for key in keys if key not in self.table]
        self.hits += len(keys) - len(missing)
        self.misses += len(missing)
        if self.table.can_hold(keys) and not self._stale(keys):
            self.table.hold(keys)
            return
        async with self._turn.taken():
            await self._bring(keys, wait=wait)
            self.table.hold(keys)
        try:
            await self._tell()
        except BaseException:
            self.release(keys)
            raise

    def release(self, keys: Collection[str]) -> None:
        """Give the leases of `hold` back."""
        self.table.release(keys)
        self._released.set()
        self._released = anyio.Event()

    async def load(self, keys: Collection[str], *, wait: bool = True) -> None:
        """Have all adapters on the device, without holding them."""
        await self.hold(keys, wait=wait)
        self.release(keys)

    async def unload(self, key: str) -> None:
        """Wait for an adapter's requests to end and take it off the device.

        Raises `AdapterNotLoadedError`, or `AdapterInUseError` after `wait_timeout_s`.
        """
        async with self._turn.taken():
            if key not in self.table:
                raise AdapterNotLoadedError(
                    f"adapter {key!r} is not loaded; loaded: {', '.join(self.table) or 'none'}"
                )
            try:
                await self._drain([key])
            except CapacityError as error:
                raise AdapterInUseError(str(error)) from None
            await self._evict(key, "unloaded")
        await self._tell()

    async def unload_if_idle(self, key: str) -> None:
        """Take an adapter off the device unless a request holds it."""
        async with self._turn.taken():
            if key in self.table and not self.table[key].leases:
                await self._evict(key, "unloaded")
        await self._tell()

    async def _bring(self, keys: Collection[str], *, wait: bool) -> None:
        stale = self._stale(keys)
        await self._drain(stale, wait=wait)
        for key in stale:
            await self._evict(key, "its files were replaced")
        newcomers = [key for key in keys if key not in self.table]
        if not newcomers:
            return
        if len(keys) > self.max_loaded:
            raise CapacityError(
                f"a mixture of {len(keys)} adapters does not fit max_loaded={self.max_loaded}; "
                "use fewer or raise it"
            )
        victims = await self._make_room(len(newcomers), keep=keys, wait=wait)
        try:
            with anyio.CancelScope(shield=True):
                await self._exchange(newcomers, victims, keep=keys)
        finally:
            self._reopen(victims)
        self._warn_when_nearly_full()

    def _stale(self, keys: Collection[str]) -> list[str]:
        """Loaded adapters under whose name and version other files are registered by now."""
        return [
            key
            for key in keys
            if key in self.table
            and self._registry.knows(key)
            and str(self._registry.get_adapter(key).path) != self.table[key].path
        ]

    async def _exchange(
        self, newcomers: Collection[str], victims: Collection[str], *, keep: Collection[str]
    ) -> None:
        """Load and check the newcomers, and only then let the victims go; else undo."""
        infos = await self._load_all(newcomers)
        try:
            for key in (*victims, *self._victims_for_bytes(infos, keep, victims)):
                await self._evict(key, "no room")
        except BaseException:
            await self._discard(infos)
            raise
        for key, info in infos.items():
            self.table.add(key, info, str(self._registry.get_adapter(key).path))
            self._registry.mark_loaded(key)
            self._notices.append(("on_adapter_loaded", {"adapter": key, "load_ms": info.load_ms}))

    async def _make_room(self, count: int, *, keep: Collection[str], wait: bool) -> list[str]:
        """Choose the adapters that must go for `count` more, and let no new lease in on them.

        While requests hold them this waits, and takes whichever is free first.
        """
        overflow = len(self.table) + count - self.max_loaded
        if overflow <= 0:
            return []
        victims = self.table.victims(overflow, keep=keep)
        with anyio.move_on_after(self._options.wait_timeout_s):
            while self._held(victims):
                if not wait:
                    raise CapacityError(
                        f"no room: {', '.join(self._held(victims))} in use by running requests"
                    )
                await self._wait_for_release(victims)
                victims = self.table.victims(overflow, keep=keep)
        if held := self._held(victims):
            raise self._no_room(held)
        self._close(victims)
        return victims

    async def _drain(self, keys: Collection[str], *, wait: bool = True) -> None:
        """Let no new lease in on `keys` and wait for the old ones to end."""
        if self._held(keys) and not wait:
            raise CapacityError(f"no room: {', '.join(self._held(keys))} in use by requests")
        with anyio.move_on_after(self._options.wait_timeout_s):
            while self._held(keys):
                await self._wait_for_release(keys)
        if held := self._held(keys):
            raise self._no_room(held)

    async def _wait_for_release(self, closed: Collection[str]) -> None:
        """Wait until some lease ends, with no new leases on `closed` meanwhile."""
        self._close(closed)
        try:
            await self._released.wait()
        finally:
            self._reopen(closed)

    def _held(self, keys: Collection[str]) -> list[str]:
        return [key for key in keys if self.table[key].leases]

    def _no_room(self, held: Collection[str]) -> CapacityError:
        return CapacityError(
            f"no room: {', '.join(held)} still in use by running requests after "
            f"{self._options.wait_timeout_s} s; raise max_loaded or wait_timeout_s"
        )

    def _close(self, keys: Collection[str]) -> None:
        for key in keys:
            self.table[key].draining = True

    def _reopen(self, keys: Collection[str]) -> None:
        for key in keys:
            if key in self.table:
                self.table[key].draining = False

    async def _load_all(self, keys: Collection[str]) -> dict[str, AdapterInfo]:
        infos: dict[str, AdapterInfo] = {}
        try:
            for key in keys:
                entry = self._registry.get_adapter(key)
                infos[key] = await self._backend.load_lora_adapter(str(entry.path), key)
        except BaseException:
            await self._discard(infos)
            raise
        return infos

    async def _discard(self, keys: Collection[str]) -> None:
        """Take newcomers off again; a cancellation meanwhile does not leave one behind."""
        cancelled: BaseException | None = None
        for key in keys:
            try:
                await self._backend.unload_lora_adapter(key)
            except anyio.get_cancelled_exc_class() as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    def _victims_for_bytes(
        self, infos: dict[str, AdapterInfo], keep: Collection[str], chosen: Collection[str]
    ) -> list[str]:
        """More victims, none of them in use, until the newcomers fit `max_bytes`."""
        if self._options.max_bytes is None:
            return []
        new_bytes = sum(info.bytes_used for info in infos.values())
        gone = sum(self.table[key].info.bytes_used for key in chosen)
        excess = self.table.bytes_used - gone + new_bytes - self._options.max_bytes
        more: list[str] = []
        for key in self.table:
            slot = self.table[key]
            if excess <= 0:
                break
            if key in keep or key in chosen or slot.pinned or slot.leases:
                continue
            more.append(key)
            excess -= slot.info.bytes_used
        if excess > 0:
            raise CapacityError(
                f"{', '.join(infos)} take {new_bytes} bytes, {excess} more than there is room for "
                f"in max_bytes={self._options.max_bytes}"
            )
        return more

    async def _evict(self, key: str, reason: str) -> None:
        """Take an adapter off; the backend ends what it began, even where it is cancelled."""
        try:
            with anyio.CancelScope(shield=True):
                await self._backend.unload_lora_adapter(key)
        except AdapterInUseError as error:
            raise CapacityError(f"no room: {error}") from None
        except anyio.get_cancelled_exc_class():
            self._forget(key, reason)
            raise
        self._forget(key, reason)

    def _forget(self, key: str, reason: str) -> None:
        self.table.remove(key)
        self._registry.mark_unloaded(key)
        self.evictions += reason == "no room"
        self._notices.append(("on_adapter_evicted", {"adapter": key, "reason": reason}))

    async def _tell(self) -> None:
        """Tell plugins what changed, after the turn: a hook may ask the manager for more."""
        while self._notices:
            hook, arguments = self._notices.pop(0)
            await self._notify(hook, **arguments)

    def _warn_when_nearly_full(self) -> None:
        limit = self._options.max_bytes
        if limit is not None and self.table.bytes_used >= _WARN_AT * limit:
            logger.warning(
                "adapters take %d of %d bytes on the device", self.table.bytes_used, limit
            )
