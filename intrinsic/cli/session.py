"""What every command that generates needs: model, adapters, router, bus."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from intrinsic.backends import ModelBackend
from intrinsic.bundled import BUNDLED_NAME, adapters_path, base_path
from intrinsic.bus import MemoryBus
from intrinsic.card import AdapterCard
from intrinsic.cli.output import OurConsole, tell
from intrinsic.errors import ConfigError
from intrinsic.manager import AdapterManager
from intrinsic.registry import AdapterRegistry
from intrinsic.routing.calibration import Calibration
from intrinsic.routing.options import RouterOptions
from intrinsic.wiring import PluginRouter, WiringOptions, make_plugins, setup_weight_interface

if TYPE_CHECKING:
    from intrinsic.registry.catalog import AdapterCatalog


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What to load. Without a model it is the bundled one with the bundled adapters.

    `registry` is a SQLite file or a URL, whose active versions are used in place of a folder; with
    `force` also those of which it is not known whether they are for the model. Raises
    `ConfigError` for an empty name of a model, and for a calibration that is not used.
    """

    model: str | None = None
    adapters_dir: Path | None = None
    router: str = "hybrid"
    top_k: int = 2
    plugin_folders: tuple[Path, ...] = ()
    backend: str = "transformers"
    calibration: Path | None = None
    registry: str | Path | None = None
    force: bool = False

    def __post_init__(self) -> None:
        if self.model is not None and not self.model.strip():
            raise ConfigError(
                "--model is empty; name a folder or a model of the hub, or leave the option out "
                "for the bundled model"
            )
        if self.calibration is not None and self.router == "llm":
            raise ConfigError(
                "--calibration is not used by router 'llm', whose confidences are the model's; "
                "leave it out, or choose cascade, hybrid, embedding or keyword"
            )


@dataclass(frozen=True, slots=True)
class Session:
    """The wired system."""

    bus: MemoryBus
    backend: ModelBackend
    registry: AdapterRegistry
    manager: AdapterManager
    router: PluginRouter


@asynccontextmanager
async def open_session(options: SessionOptions) -> AsyncIterator[Session]:
    """Load everything, showing progress on a terminal, and close it again."""
    plugins = make_plugins(options.plugin_folders)
    for problem in plugins.problems:
        tell(f"intrinsic: {problem}")
    bus = MemoryBus(plugins=plugins)
    async with AsyncExitStack() as stack:
        adapters = await _adapters(options, bus, stack)
        live = adapters if isinstance(adapters, AdapterRegistry) else adapters.live
        with loading("loading", ("model", "router")) as done:
            factory = plugins.factory("register_backends", options.backend, "backend")
            backend = await anyio.to_thread.run_sync(load_model, factory, options.model)
            done()
            wiring = WiringOptions(
                router=options.router,
                top_k=options.top_k,
                routing=calibrated(options.calibration),
                force_adapters=options.force,
            )
            manager, router = setup_weight_interface(
                bus, backend, adapters, options=wiring, plugins=plugins
            )
            await router.warm_up([entry.card for entry in live.list_adapters()])
            done()
        await stack.enter_async_context(bus)
        yield Session(bus, backend, live, manager, router)


async def cards_of(options: SessionOptions) -> tuple[AdapterCard, ...]:
    """The cards that routing may choose from, without a model."""
    async with AsyncExitStack() as stack:
        adapters = await _adapters(options, None, stack)
        live = adapters if isinstance(adapters, AdapterRegistry) else adapters.live
        return tuple(entry.card for entry in live.list_adapters())


async def _adapters(
    options: SessionOptions, bus: MemoryBus | None, stack: AsyncExitStack
) -> AdapterRegistry | AdapterCatalog:
    """The adapters of the named registry, which is there already, or else those of a folder."""
    if options.registry is None:
        return open_registry(options)
    from intrinsic.registry.catalog import AdapterCatalog

    catalog = AdapterCatalog(options.registry, bus=bus)
    if catalog.database.file is not None and not catalog.database.file.exists():
        raise ConfigError(
            f"there is no registry {catalog.database.file}; "
            "make one with 'intrinsic adapters register'"
        )
    return await stack.enter_async_context(catalog)


def calibrated(file: Path | None) -> RouterOptions | None:
    """The settings of a router with the calibration of a file. Raises `ConfigError`."""
    return None if file is None else RouterOptions(calibration=Calibration.load(file))


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


def open_registry(options: SessionOptions) -> AdapterRegistry:
    """The adapters of the named folder; the bundled ones fit the bundled model alone."""
    if options.adapters_dir is None and options.model is not None:
        tell(
            "intrinsic: the bundled adapters do not fit another model; "
            "name its adapters with --adapters-dir"
        )
        return AdapterRegistry()
    registry = AdapterRegistry.from_folder(options.adapters_dir or adapters_path())
    for problem in registry.problems:
        tell(f"intrinsic: {problem.path} is left out: {problem.why}")
    return registry


def load_model(factory: Callable[[str], ModelBackend], model: str | None) -> ModelBackend:
    """Build a backend for a model, by default the bundled one; its library keeps quiet.

    The bundled model is also found by the name that its adapters give it.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    return factory(str(base_path()) if model in (None, BUNDLED_NAME) else model)
