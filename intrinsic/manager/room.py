"""Room on the device: who must go for newcomers, and the wait until nobody holds them."""

from __future__ import annotations

from collections.abc import Callable, Collection

import anyio

from intrinsic.errors import CapacityError
from intrinsic.manager.options import ManagerOptions
from intrinsic.manager.table import SlotTable


class MergedError(CapacityError):
    """Raised when what must go is written into the weights, so that waiting would be in vain."""


class Room:
    """Chooses victims and waits for their leases to end; the caller has the turn."""

    def __init__(
        self, table: SlotTable, options: ManagerOptions, max_loaded: Callable[[], int]
    ) -> None:
        self._table = table
        self._options = options
        self._max_loaded = max_loaded
        self._released = anyio.Event()

    def note_release(self) -> None:
        """Wake who waits: some lease has ended."""
        self._released.set()
        self._released = anyio.Event()

    async def wait_for_release(self) -> None:
        """Return when the next lease has ended."""
        await self._released.wait()

    def excess_bytes(self, more_bytes: int) -> int:
        """By how much `max_bytes` would be exceeded with `more_bytes`; 0 or less fits."""
        limit = self._options.max_bytes
        return 0 if limit is None else self._table.bytes_used + more_bytes - limit

    def is_free(self, more_bytes: int) -> bool:
        """Whether one more adapter has a slot and its bytes, with nothing evicted."""
        return len(self._table) < self._max_loaded() and self.excess_bytes(more_bytes) <= 0

    async def make(
        self, count: int, more_bytes: int, *, keep: Collection[str], wait: bool
    ) -> list[str]:
        """Choose the adapters that must go for `count` more, and let no new lease in on them.

        While requests hold them this waits, and takes whichever is free first. Raises
        `MergedError` where the merged mixture holds them.
        """
        victims = self._choose(count, more_bytes, keep)
        with anyio.move_on_after(self._options.wait_timeout_s):
            while self._held(victims):
                if not wait:
                    raise CapacityError(
                        f"no room: {', '.join(self._held(victims))} in use by running requests"
                    )
                await self._wait_for_release(victims)
                victims = self._choose(count, more_bytes, keep)
        if held := self._held(victims):
            raise self._no_room(held)
        self.close(victims)
        return victims

    def make_now(
        self, more_bytes: int, *, leaving: Collection[str], keep: Collection[str]
    ) -> list[str] | None:
        """More victims beside those that are `leaving`; None where requests hold them."""
        victims = self._choose(0, more_bytes, keep, leaving)
        if self._held(victims):
            return None
        self.close(victims)
        return victims

    async def drain(self, keys: Collection[str], *, wait: bool = True) -> None:
        """Let no new lease in on `keys` and wait for the old ones to end.

        Raises `MergedError` where the merged mixture has one.
        """
        if self._held(keys) and not wait:
            raise CapacityError(f"no room: {', '.join(self._held(keys))} in use by requests")
        with anyio.move_on_after(self._options.wait_timeout_s):
            while self._held(keys):
                await self._wait_for_release(keys)
        if held := self._held(keys):
            raise self._no_room(held)

    def close(self, keys: Collection[str]) -> None:
        """Let no new lease in."""
        for key in keys:
            self._table[key].draining = True

    def reopen(self, keys: Collection[str]) -> None:
        """Let leases in again on those that stayed."""
        for key in keys:
            if key in self._table:
                self._table[key].draining = False

    def _choose(
        self, count: int, more_bytes: int, keep: Collection[str], leaving: Collection[str] = ()
    ) -> list[str]:
        overflow = max(0, len(self._table) + count - self._max_loaded()) if count else 0
        excess = self.excess_bytes(more_bytes) - self._bytes_of(leaving)
        victims = self._table.victims(overflow, excess, keep=(*keep, *leaving))
        short = excess - self._bytes_of(victims)
        if short > 0:
            raise CapacityError(
                f"the adapters asked for take {more_bytes} bytes, {short} more than there is "
                f"room for in max_bytes={self._options.max_bytes}"
            )
        return victims

    def _bytes_of(self, keys: Collection[str]) -> int:
        slots = [self._table[key] for key in keys]
        return sum(slot.info.bytes_used for slot in slots if not slot.off)

    async def _wait_for_release(self, closed: Collection[str]) -> None:
        """Wait until some lease ends, with no new leases on `closed` meanwhile."""
        if merged := [key for key in closed if self._table[key].merged]:
            raise MergedError(f"no room: {', '.join(merged)} merged into the weights")
        self.close(closed)
        try:
            await self._released.wait()
        finally:
            self.reopen(closed)

    def _held(self, keys: Collection[str]) -> list[str]:
        return [key for key in keys if self._table[key].leases]

    def _no_room(self, held: Collection[str]) -> CapacityError:
        return CapacityError(
            f"no room: {', '.join(held)} still in use by running requests after "
            f"{self._options.wait_timeout_s} s; raise max_loaded, max_bytes or wait_timeout_s"
        )
