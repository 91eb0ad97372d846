"""The adapters on the device, least recently used first, with who holds them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from intrinsic.backends import AdapterInfo
from intrinsic.errors import CapacityError


@dataclass(slots=True)
class Slot:
    """One adapter on the device.

    A slot that drains gives out no new leases; one that is `off` was emptied by a change that is
    not complete, and is filled again where that fails. One that is `merged` has a lease that ends
    only when the pristine weights are copied back.
    """

    info: AdapterInfo
    path: str = ""
    leases: int = 0
    pinned: bool = False
    draining: bool = False
    off: bool = False
    merged: bool = False

    @property
    def is_leaving(self) -> bool:
        """Whether it may be on its way off the device by now."""
        return self.draining and not self.leases


class SlotTable:
    """Slots by adapter key (`name@version`), in the order of their last use."""

    def __init__(self) -> None:
        self._slots: OrderedDict[str, Slot] = OrderedDict()

    def __contains__(self, key: str) -> bool:
        return key in self._slots

    def __len__(self) -> int:
        return len(self._slots)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._slots))

    def __getitem__(self, key: str) -> Slot:
        return self._slots[key]

    @property
    def bytes_used(self) -> int:
        """Bytes of all adapters on the device."""
        return sum(slot.info.bytes_used for slot in self._slots.values() if not slot.off)

    def can_hold(self, keys: Collection[str]) -> bool:
        """Whether all are on the device and none of them drains."""
        return all(key in self._slots and not self._slots[key].draining for key in keys)

    def add(self, key: str, info: AdapterInfo, path: str = "", *, used: bool = True) -> None:
        """Note an adapter loaded from `path` as the most recently used, or the first to go."""
        self._slots[key] = Slot(info, path)
        self._slots.move_to_end(key, last=used)

    def remove(self, key: str) -> None:
        """Forget an adapter that left the device."""
        del self._slots[key]

    def hold(self, keys: Collection[str]) -> None:
        """Count a lease on each, and note the use."""
        for key in keys:
            self._slots[key].leases += 1
            self._slots.move_to_end(key)

    def release(self, keys: Collection[str]) -> None:
        """Give a lease on each back."""
        for key in keys:
            self._slots[key].leases -= 1

    def victims(self, slots: int, room_bytes: int = 0, *, keep: Collection[str]) -> list[str]:
        """Choose what must go: free ones, leased ones, merged ones; least recently used first.

        Never what is pinned or in `keep`. Raises `CapacityError` where there are too few for the
        slots; the bytes of all that may go can be fewer than `room_bytes`.
        """
        able = [k for k, slot in self._slots.items() if not slot.pinned and k not in keep]
        if len(able) < slots:
            held = ", ".join(k for k in self._slots if k not in able) or "none"
            raise CapacityError(
                f"{slots} more adapters need room and {len(able)} may be evicted "
                f"(pinned or needed: {held}); raise max_loaded or unpin one"
            )
        chosen: list[str] = []
        for key in sorted(able, key=lambda k: (self._slots[k].leases > 0, self._slots[k].merged)):
            if len(chosen) >= slots and room_bytes <= 0:
                break
            chosen.append(key)
            room_bytes -= self._slots[key].info.bytes_used
        return chosen
