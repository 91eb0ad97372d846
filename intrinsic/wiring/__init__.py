"""The bus, a router and the manager, wired together."""

from intrinsic.wiring.interface import (
    WeightInterface,
    WiringOptions,
    build_router,
    make_plugins,
    setup_weight_interface,
)
from intrinsic.wiring.plugin_router import PluginRouter
from intrinsic.wiring.wishes import RouteWishes

__all__ = [
    "PluginRouter",
    "RouteWishes",
    "WeightInterface",
    "WiringOptions",
    "build_router",
    "make_plugins",
    "setup_weight_interface",
]
