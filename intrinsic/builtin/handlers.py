"""The handler of `DYNAMIC_LORA`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intrinsic.events import InjectionChannel
from intrinsic.hookspecs import hookimpl

if TYPE_CHECKING:
    from intrinsic.bus import MemoryBus
    from intrinsic.wiring import WeightInterface


@hookimpl
def register_handlers(bus: MemoryBus, interface: WeightInterface | None) -> None:
    """Serve `DYNAMIC_LORA` where a bus is wired to a model."""
    if interface is None:
        return
    from intrinsic.wiring.dynamic_lora import DynamicLoraHandler

    handler = DynamicLoraHandler(bus, interface.manager, interface.router)
    bus.register_handler(InjectionChannel.DYNAMIC_LORA, handler, name="dynamic_lora")
