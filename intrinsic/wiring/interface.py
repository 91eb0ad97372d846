"""`setup_weight_interface`: one call that wires a bus, a model and a registry together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from intrinsic.backends import ModelBackend
from intrinsic.bus import MemoryBus, Notice
from intrinsic.errors import ConfigError
from intrinsic.manager import AdapterManager, ManagerOptions
from intrinsic.plugins import PluginManager
from intrinsic.registry import AdapterRegistry
from intrinsic.routing.llm_options import LLMOptions
from intrinsic.routing.options import RouterOptions
from intrinsic.routing.router import Embedder, Router
from intrinsic.wiring.base_scorer import BaseScorer
from intrinsic.wiring.offering import parameters_of, taken
from intrinsic.wiring.plugin_router import PluginRouter

if TYPE_CHECKING:
    from intrinsic.registry.catalog import AdapterCatalog


class WeightInterface(NamedTuple):
    """What `setup_weight_interface` built."""

    manager: AdapterManager
    router: PluginRouter


@dataclass(frozen=True, slots=True)
class WiringOptions:
    """`router` is the name of a built-in or plugin router; at most `top_k` adapters are mixed.

    `routing` are the settings of the router, such as a calibration; its own where None. `llm` is
    for the routers that ask a language model. `force_adapters` lets adapters of a catalog through
    of which it is not known whether they are for the model; the engine checks their shapes.
    """

    router: str = "hybrid"
    top_k: int = 2
    routing: RouterOptions | None = None
    llm: LLMOptions = field(default_factory=LLMOptions)
    manager: ManagerOptions = field(default_factory=ManagerOptions)
    force_adapters: bool = False

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ConfigError(f"top_k is {self.top_k}; it must be 1 or more")


def make_plugins(folders: Iterable[str | Path] = ()) -> PluginManager:
    """Built-in plugins, installed ones (entry points), and those of the named folders."""
    plugins = PluginManager.with_builtins()
    plugins.load_entry_points()
    for folder in folders:
        plugins.load_folder(folder)
    return plugins


def setup_weight_interface(
    bus: MemoryBus,
    backend: ModelBackend,
    registry: AdapterRegistry | AdapterCatalog,
    embedder: Embedder | None = None,
    *,
    options: WiringOptions | None = None,
    plugins: PluginManager | None = None,
) -> WeightInterface:
    """Wire a bus to a model: `DYNAMIC_LORA` events are routed and answered with a `Receipt`.

    Without an embedder the bundled one is used where the router needs one. `plugins` are the
    bus's own unless given, else the built-in and the installed ones; a bus without gets them.
    Routers that ask a language model get this one, as its base, unless the options name another.
    While the bus is suspended the active mixture is bypassed as well. Raises `ConfigError` for an
    unknown router, for one that needs what the backend cannot do, and for one that takes no
    settings where `routing` are given.

    With an open catalog, its live registry is used: what it offers to routing is chosen from, use
    is noted in it, and an adapter that is for another model is refused before it is loaded.
    """
    chosen = options or WiringOptions()
    found = plugins or bus.plugins or make_plugins()
    if bus.plugins is None:
        bus.plugins = found
    make_router = found.factory("register_routers", chosen.router, "router")
    make_embedder = found.factory("register_embedders", "sentence-transformers", "embedder")
    encoder = make_embedder(None) if embedder is None else embedder
    if not isinstance(registry, AdapterRegistry):
        connect_catalog(registry, backend, found, forced=chosen.force_adapters)
        registry = registry.live
    manager = AdapterManager(backend, registry, options=chosen.manager, plugins=found)
    offered = {"scorer": BaseScorer.of(manager), "llm": chosen.llm, "options": chosen.routing}
    routed = build_router(make_router, encoder, offered, name=chosen.router)
    router = PluginRouter(routed, found, top_k=chosen.top_k)
    interface = WeightInterface(manager, router)
    found.call_sync("register_handlers", bus=bus, interface=interface)
    _follow_kill_switch(bus, manager)
    return interface


def connect_catalog(
    catalog: AdapterCatalog, backend: ModelBackend, plugins: PluginManager, *, forced: bool = False
) -> None:
    """Note use in a catalog, and have its adapters judged by the model, where that can be seen."""
    from intrinsic.registry.fitting import ModelFit
    from intrinsic.registry.signature import ModelSignature
    from intrinsic.wiring.usage_notes import UsageNotes

    name = f"usage of {catalog.database.shown}"
    if name in {info.name for info in plugins.list_plugins()}:  # of a catalog wired before
        plugins.unregister(name)
    plugins.register(UsageNotes(catalog), name)
    model = getattr(backend, "model", None)
    if model is not None:
        signature = ModelSignature.of_model(model)
        catalog.live.fit = ModelFit(catalog, backend.name, signature, forced=forced)


def build_router(
    make: Callable[..., Router], embedder: Embedder, offered: Mapping[str, object], *, name: str
) -> Router:
    """Call a router's factory with those of `offered` that it takes by name.

    `scorer` and `llm` count where they are for keywords alone, `options` anywhere. Raises
    `ConfigError` for options, not None, that it does not take.
    """
    settings = offered.get("options")
    given = taken(make, offered)
    if settings is not None:
        if "options" not in parameters_of(make):
            raise ConfigError(
                f"router {name!r} takes no options; leave out calibration and routing"
            )
        given["options"] = settings
    return make(embedder, **given)


def _follow_kill_switch(bus: MemoryBus, manager: AdapterManager) -> None:
    def bypass(notice: Notice) -> None:
        manager.bypassed = notice.name == "suspended"

    manager.bypassed = bus.suspended is not None
    bus.on("suspended", bypass)
    bus.on("resumed", bypass)
