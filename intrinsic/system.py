"""The whole system as settings describe it: bus, model, adapters, router, manager."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio.to_thread

from intrinsic.backends import ModelBackend
from intrinsic.bundled import BUNDLED_NAME, adapters_path
from intrinsic.bus import MemoryBus
from intrinsic.card import AdapterCard
from intrinsic.config.place import Where, named_place
from intrinsic.config.sections import Project
from intrinsic.config.settings import Settings
from intrinsic.manager import AdapterManager
from intrinsic.plugins import PluginManager
from intrinsic.registry import AdapterRegistry
from intrinsic.wiring import PluginRouter, setup_weight_interface

if TYPE_CHECKING:
    from intrinsic.registry.catalog import AdapterCatalog

logger = logging.getLogger("intrinsic.system")

Tell = Callable[[str], object]
"""Told one sentence about what was left out."""


@dataclass(frozen=True, slots=True)
class System:
    """What was opened. `catalog` is there where a registry is, and `registry` its live view."""

    settings: Settings
    bus: MemoryBus
    backend: ModelBackend
    registry: AdapterRegistry
    catalog: AdapterCatalog | None
    manager: AdapterManager
    router: PluginRouter
    plugins: PluginManager


@asynccontextmanager
async def open_system(
    settings: Settings,
    *,
    tell: Tell = logger.warning,
    loaded: Callable[[], object] = lambda: None,
) -> AsyncIterator[System]:
    """Load everything that the settings name, enter the bus, and close it all again.

    `loaded` is called twice: after the model, and after the router. Raises `ConfigError` for
    settings that cannot be met, `BackendError` for a model that cannot be loaded.
    """
    wiring = settings.wiring_options()
    plugins = load_plugins(settings, tell)
    bus = settings.bus(plugins=plugins)
    async with AsyncExitStack() as stack:
        adapters = await _adapters(settings.project, bus, stack, tell)
        live, catalog = _live(adapters)
        backend = await anyio.to_thread.run_sync(load_model, settings, plugins)
        loaded()
        manager, router = setup_weight_interface(
            bus, backend, adapters, settings.embedder(plugins), options=wiring, plugins=plugins
        )
        await router.warm_up([entry.card for entry in live.list_adapters()])
        loaded()
        await stack.enter_async_context(bus)
        yield System(settings, bus, backend, live, catalog, manager, router, plugins)


async def cards_of(project: Project, *, tell: Tell = logger.warning) -> tuple[AdapterCard, ...]:
    """The cards that routing may choose from, without a model."""
    async with AsyncExitStack() as stack:
        live, _ = _live(await _adapters(project, None, stack, tell))
        return tuple(entry.card for entry in live.list_adapters())


def load_plugins(settings: Settings, tell: Tell = logger.warning) -> PluginManager:
    """All plugins; those that could not be loaded are told."""
    plugins = settings.plugins()
    for problem in plugins.problems:
        tell(str(problem))
    return plugins


def open_registry(project: Project, *, tell: Tell = logger.warning) -> AdapterRegistry:
    """The adapters of the named folder; the bundled ones fit the bundled model alone."""
    if project.adapters is None and project.model not in (None, BUNDLED_NAME):
        tell("the bundled adapters do not fit another model; name its adapters with --adapters-dir")
        return AdapterRegistry()
    registry = AdapterRegistry.from_folder(project.adapters or adapters_path())
    for problem in registry.problems:
        tell(f"{problem.path} is left out: {problem.why}")
    return registry


def load_model(settings: Settings, plugins: PluginManager) -> ModelBackend:
    """Build the backend with its model; its library keeps quiet."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    return settings.backend(plugins)


async def _adapters(
    project: Project, bus: MemoryBus | None, stack: AsyncExitStack, tell: Tell
) -> AdapterRegistry | AdapterCatalog:
    """The adapters of the named registry, which is there already, or else those of a folder."""
    where: Where | None = named_place(project)
    if where is None:
        return open_registry(project, tell=tell)
    from intrinsic.registry.catalog import AdapterCatalog

    return await stack.enter_async_context(AdapterCatalog(where, bus=bus))


def _live(
    adapters: AdapterRegistry | AdapterCatalog,
) -> tuple[AdapterRegistry, AdapterCatalog | None]:
    if isinstance(adapters, AdapterRegistry):
        return adapters, None
    return adapters.live, adapters
