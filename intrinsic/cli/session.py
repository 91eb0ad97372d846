"""The system as commands open it: with a progress bar, and with what was left out in a line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from intrinsic import system
from intrinsic.card import AdapterCard
from intrinsic.cli.output import OurConsole, tell
from intrinsic.cli.registry_place import asked_place
from intrinsic.cli.settings import FLAGS
from intrinsic.errors import ConfigError
from intrinsic.registry import AdapterRegistry
from intrinsic.system import System

if TYPE_CHECKING:
    from intrinsic.config import Settings
    from intrinsic.config.sections import Project
    from intrinsic.plugins import PluginManager

_CALIBRATION = "routing.calibration"


@asynccontextmanager
async def open_session(settings: Settings) -> AsyncIterator[System]:
    """Load everything, showing progress on a terminal, and close it again.

    Raises `ConfigError` for a calibration that was asked for and is not used.
    """
    check_flags(settings)
    async with AsyncExitStack() as stack:
        with loading("loading", ("model", "router")) as done:
            opening = system.open_system(settings, tell=tell_left_out, loaded=done)
            opened = await stack.enter_async_context(opening)
        yield opened


def check_flags(settings: Settings) -> None:
    """Raise `ConfigError` for a calibration that was asked for and is not used.

    Where no adapters are named, say that the bundled ones are used.
    """
    router = str(settings.value("routing.router"))
    if settings.origin(_CALIBRATION) == FLAGS[_CALIBRATION] and router == "llm":
        raise ConfigError(
            "--calibration is not used by router 'llm', whose confidences are the model's; "
            "leave it out, or choose cascade, hybrid, embedding or keyword"
        )
    asked_place(settings.project)


async def cards_of(project: Project) -> tuple[AdapterCard, ...]:
    """The cards that routing may choose from, without a model."""
    asked_place(project)
    return await system.cards_of(project, tell=tell_left_out)


def load_plugins(settings: Settings) -> PluginManager:
    """All plugins, and on standard error those that could not be loaded."""
    return system.load_plugins(settings, tell_left_out)


def open_registry(project: Project) -> AdapterRegistry:
    """The adapters of the named folder, else the bundled ones."""
    return system.open_registry(project, tell=tell_left_out)


def tell_left_out(sentence: str) -> None:
    """Say on standard error what was left out."""
    tell(f"intrinsic: {sentence}")


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
