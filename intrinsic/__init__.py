"""intrinsic: an event-driven memory bus that routes each request to the right LoRA adapters.

Importing this package imports neither torch nor transformers; the names below are loaded when they
are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from intrinsic.backends import (
        Capability,
        FunctionBackend,
        Generation,
        GenerationOptions,
        ModelBackend,
    )
    from intrinsic.backends.transformers_backend import TransformersBackend
    from intrinsic.bundled import adapters_path, base_path
    from intrinsic.bus import BusOptions, MemoryBus
    from intrinsic.card import AdapterCard
    from intrinsic.config import Settings, load_settings
    from intrinsic.errors import IntrinsicError
    from intrinsic.events import EventContext, InjectionChannel, MemoryEvent, MemoryVector
    from intrinsic.hookspecs import hookimpl
    from intrinsic.manager import AdapterManager, Lease, ManagerOptions
    from intrinsic.manager.life_cycle import LifeCycle
    from intrinsic.mixture import Mixture
    from intrinsic.plugins import PluginManager
    from intrinsic.receipt import Receipt
    from intrinsic.registry import AdapterRegistry
    from intrinsic.registry.catalog import AdapterCatalog
    from intrinsic.registry.provenance import Provenance
    from intrinsic.registry.registering import Newcomer
    from intrinsic.routing import Embedder, Router, SentenceEncoder, make_router
    from intrinsic.scaling import ScaleRegistry
    from intrinsic.selection import RouteContext, Selection
    from intrinsic.wiring import WeightInterface, WiringOptions, setup_weight_interface

_HOMES = {
    "AdapterCard": "card",
    "AdapterCatalog": "registry.catalog",
    "AdapterManager": "manager",
    "AdapterRegistry": "registry",
    "BusOptions": "bus",
    "Capability": "backends",
    "Embedder": "routing",
    "EventContext": "events",
    "FunctionBackend": "backends",
    "Generation": "backends",
    "GenerationOptions": "backends",
    "InjectionChannel": "events",
    "IntrinsicError": "errors",
    "Lease": "manager",
    "LifeCycle": "manager.life_cycle",
    "ManagerOptions": "manager",
    "MemoryBus": "bus",
    "MemoryEvent": "events",
    "MemoryVector": "events",
    "Mixture": "mixture",
    "ModelBackend": "backends",
    "Newcomer": "registry.registering",
    "PluginManager": "plugins",
    "Provenance": "registry.provenance",
    "Receipt": "receipt",
    "RouteContext": "selection",
    "Router": "routing",
    "ScaleRegistry": "scaling",
    "Selection": "selection",
    "SentenceEncoder": "routing",
    "Settings": "config",
    "TransformersBackend": "backends.transformers_backend",
    "WeightInterface": "wiring",
    "WiringOptions": "wiring",
    "adapters_path": "bundled",
    "base_path": "bundled",
    "hookimpl": "hookspecs",
    "load_settings": "config",
    "make_router": "routing",
    "setup_weight_interface": "wiring",
}

__all__ = [
    "AdapterCard",
    "AdapterCatalog",
    "AdapterManager",
    "AdapterRegistry",
    "BusOptions",
    "Capability",
    "Embedder",
    "EventContext",
    "FunctionBackend",
    "Generation",
    "GenerationOptions",
    "InjectionChannel",
    "IntrinsicError",
    "Lease",
    "LifeCycle",
    "ManagerOptions",
    "MemoryBus",
    "MemoryEvent",
    "MemoryVector",
    "Mixture",
    "ModelBackend",
    "Newcomer",
    "PluginManager",
    "Provenance",
    "Receipt",
    "RouteContext",
    "Router",
    "ScaleRegistry",
    "Selection",
    "SentenceEncoder",
    "Settings",
    "TransformersBackend",
    "WeightInterface",
    "WiringOptions",
    "adapters_path",
    "base_path",
    "hookimpl",
    "load_settings",
    "make_router",
    "setup_weight_interface",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'intrinsic' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"intrinsic.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
