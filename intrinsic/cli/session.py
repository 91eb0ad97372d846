"""What every command that generates needs: model, adapters, router, bus."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio.to_thread
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from intrinsic.backends import ModelBackend
from intrinsic.bundled import BUNDLED_NAME, adapters_path
from intrinsic.bus import MemoryBus
from intrinsic.card import AdapterCard
from intrinsic.cli.output import OurConsole, tell
from intrinsic.cli.registry_place import asked_place
from intrinsic.cli.settings import FLAGS
from intrinsic.errors import ConfigError
from intrinsic.manager import AdapterManager
from intrinsic.registry import AdapterRegistry
from intrinsic.wiring import PluginRouter, setup_weight_interface

if TYPE_CHECKING:
    from intrinsic.config import Settings
    from intrinsic.config.sections import Project
    from intrinsic.plugins import PluginManager
    from intrinsic.registry.catalog import AdapterCatalog

_CALIBRATION = "routing.calibration"


@dataclass(frozen=True, slots=True)
class Session:
    """The wired system."""

    bus: MemoryBus
    backend: ModelBackend
    registry: AdapterRegistry
    manager: AdapterManager
    router: PluginRouter


@asynccontextmanager
async def open_session(settings: Settings) -> AsyncIterator[Session]:
    """Load everything, showing progress on a terminal, and close it again.

    Raises `ConfigError` for a calibration that was asked for and is not used.
    """
    if settings.origin(_CALIBRATION) == FLAGS[_CALIBRATION] and _router(settings) == "llm":
        raise ConfigError(
            "--calibration is not used by router 'llm', whose confidences are the model's; "
            "leave it out, or choose cascade, hybrid, embedding or keyword"
        )
    wiring = settings.wiring_options()
    plugins = load_plugins(settings)
    bus = settings.bus(plugins=plugins)
    async with AsyncExitStack() as stack:
        adapters = await _adapters(settings.project, bus, stack)
        live = adapters if isinstance(adapters, AdapterRegistry) else adapters.live
        with loading("loading", ("model", "router")) as done:
            backend = await anyio.to_thread.run_sync(load_model, settings, plugins)
            done()
            embedder = settings.embedder(plugins)
            manager, router = setup_weight_interface(
                bus, backend, adapters, embedder, options=wiring, plugins=plugins
            )
            await router.warm_up([entry.card for entry in live.list_adapters()])
            done()
        await stack.enter_async_context(bus)
        yield Session(bus, backend, live, manager, router)


async def cards_of(project: Project) -> tuple[AdapterCard, ...]:
    """The cards that routing may choose from, without a model."""
    async with AsyncExitStack() as stack:
        adapters = await _adapters(project, None, stack)
        live = adapters if isinstance(adapters, AdapterRegistry) else adapters.live
        return tuple(entry.card for entry in live.list_adapters())


async def _adapters(
    project: Project, bus: MemoryBus | None, stack: AsyncExitStack
) -> AdapterRegistry | AdapterCatalog:
    """The adapters of the named registry, which is there already, or else those of a folder."""
    where = asked_place(project)
    if where is None:
        return open_registry(project)
    from intrinsic.registry.catalog import AdapterCatalog

    return await stack.enter_async_context(AdapterCatalog(where, bus=bus))


def _router(settings: Settings) -> str:
    return str(settings.value("routing.router"))


def load_plugins(settings: Settings) -> PluginManager:
    """All plugins, and on standard error those that could not be loaded."""
    plugins = settings.plugins()
    for problem in plugins.problems:
        tell(f"intrinsic: {problem}")
    return plugins


@contextmanager
def loading(title: str, steps: Sequence[str]) -> Iterator[Callable[[], None]]:
    """A progress bar on a terminal, over named steps; call what it yields after each."""
    console = OurConsole(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    names = iter(steps)
    with bar:
        task = bar.add_task(f"{title} {next(names)}", total=len(steps))
        yield lambda: bar.update(task, advance=1, description=f"{title} {next(names, 'done')}")


def open_registry(project: Project) -> AdapterRegistry:
    """The adapters of the named folder; the bundled ones fit the bundled model alone."""
    if project.adapters is None and project.model not in (None, BUNDLED_NAME):
        tell(
            "intrinsic: the bundled adapters do not fit another model; "
            "name its adapters with --adapters-dir"
        )
        return AdapterRegistry()
    registry = AdapterRegistry.from_folder(project.adapters or adapters_path())
    for problem in registry.problems:
        tell(f"intrinsic: {problem.path} is left out: {problem.why}")
    return registry


def load_model(settings: Settings, plugins: PluginManager) -> ModelBackend:
    """Build the backend with its model; its library keeps quiet."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    return settings.backend(plugins)
