"""Newcomers onto the device and victims off it: all of it, or nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from intrinsic.backends import AdapterInfo
from intrinsic.errors import CapacityError
from intrinsic.manager.device import Device
from intrinsic.manager.room import Room


class OutgrownError(CapacityError):
    """Raised when newcomers turn out larger than was known, and what could go is held."""


class Exchange:
    """One change of what is on the device; the caller has the turn and is shielded.

    Victims go last, except those before whose end the budget of bytes would be exceeded: these go
    once the newcomers were read and checked, and come back where one still does not load.
    """

    def __init__(self, device: Device, room: Room) -> None:
        self._device = device
        self._room = room

    async def run(
        self,
        newcomers: Sequence[str],
        victims: list[str],
        *,
        keep: Collection[str],
        checked: bool,
    ) -> None:
        """Load the newcomers and let the victims go, which take no leases.

        Victims that are found necessary only now are added to the list. Raises `OutgrownError`,
        and what loading raises.
        """
        early = self._early(newcomers, victims) if checked else []
        infos: dict[str, AdapterInfo] = {}
        try:
            for key in early:
                await self._device.take_off(key)
            infos = await self._device.put_on(newcomers)
            victims += self._more_victims(infos, victims, keep)
            for key in victims:
                if not self._device.table[key].off:
                    await self._device.evict(key, "no room")
        except BaseException:
            await self._undo(infos, early)
            raise
        for key in early:
            self._device.forget(key, "no room")
        for key, info in infos.items():
            self._device.add(key, info)

    async def _undo(self, newcomers: Collection[str], early: Sequence[str]) -> None:
        try:
            await self._device.discard(newcomers)
        finally:
            await self._device.bring_back(early)

    def _early(self, newcomers: Sequence[str], victims: Sequence[str]) -> list[str]:
        """The first of the victims, as many as must go for the bytes of the newcomers."""
        excess = self._room.excess_bytes(sum(self._device.sizes.get(key, 0) for key in newcomers))
        early: list[str] = []
        for key in victims:
            if excess <= 0:
                break
            early.append(key)
            excess -= self._device.table[key].info.bytes_used
        return early

    def _more_victims(
        self, infos: dict[str, AdapterInfo], victims: Sequence[str], keep: Collection[str]
    ) -> list[str]:
        """More victims, where the newcomers are larger than was known."""
        new_bytes = sum(info.bytes_used for info in infos.values())
        more = self._room.make_now(new_bytes, leaving=victims, keep=keep)
        if more is None:
            raise OutgrownError(
                f"no room: {', '.join(infos)} take {new_bytes} bytes, and what could go is in use"
            )
        return more
