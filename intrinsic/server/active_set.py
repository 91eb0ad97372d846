"""The adapters that requests get which ask for nothing: one set, whichever protocol changes it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from fastapi import Request

from intrinsic.errors import AdapterNotFoundError
from intrinsic.registry import AdapterRegistry
from intrinsic.selection import Selection
from intrinsic.server.envelope import ApiError
from intrinsic.server.service import Service
from intrinsic.server.turn import turn


@dataclass(frozen=True, slots=True)
class Replaced:
    """Which adapters are active now, and which could not be had, as they were asked for."""

    success: tuple[str, ...]
    failure: tuple[str, ...]


async def replace_active(
    service: Service, wanted: Mapping[str, float], waiting: Request | None = None
) -> Replaced:
    """Make adapters with their factors the active ones, less those that cannot be had.

    With a request `waiting`, it is done when the generations that run have ended, unless its client
    left; they keep what they started with in any case. Raises a 400 for an adapter that is named
    twice, and what `RequestQueue.alone` and `AdapterManager.swap` raise; then nothing has changed.
    """
    _refuse_twice(wanted, service.system.registry)
    if waiting is None:
        return await _replace(service, wanted)
    async with turn(waiting, service.queue.alone()):
        return await _replace(service, wanted)


async def clear_active(service: Service) -> None:
    """Make the base model what is active, from the next request on, and free the device.

    Weights that are merged are restored once the requests that run have ended. Raises
    `CapacityError` where they do not end in `wait_timeout_s`; the base is active all the same.
    """
    manager = service.system.manager
    former = manager.get_active_adapters()
    await manager.swap({})
    if manager.get_stats()["merged"] and not manager.get_active_adapters():
        await manager.unfuse()
        for key in former:
            with suppress(AdapterNotFoundError):
                await manager.discard(key)


async def _replace(service: Service, wanted: Mapping[str, float]) -> Replaced:
    manager = service.system.manager
    receipt = await manager.apply([Selection(name, weight=w) for name, w in wanted.items()])
    await manager.swap(receipt.selections)
    had = {selection.adapter for selection in receipt.selections}
    return Replaced(
        tuple(name for name in wanted if name in had),
        tuple(name for name in wanted if name not in had),
    )


def shown(registry: AdapterRegistry, key: str) -> str:
    """The shortest name that means an adapter (`name@version`) to clients."""
    name = key.rpartition("@")[0]
    try:
        return name if registry.get_adapter(name).key == key else key
    except LookupError:  # no version of that name is active
        return key


def _refuse_twice(wanted: Mapping[str, float], registry: AdapterRegistry) -> None:
    seen: dict[str, str] = {}
    for name in wanted:
        key = registry.get_adapter(name).key if registry.knows(name) else name
        if key in seen:
            raise ApiError(400, f"{seen[key]!r} and {name!r} are the same adapter; name it once")
        seen[key] = name
