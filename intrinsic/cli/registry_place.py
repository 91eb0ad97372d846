"""Which registry a command means: one that is named, or that beside the adapters' folder."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from intrinsic.cli.output import tell
from intrinsic.cli.settings import project_of
from intrinsic.errors import ConfigError

if TYPE_CHECKING:
    from intrinsic.config.sections import Project
    from intrinsic.registry import AdapterRegistry
    from intrinsic.registry.catalog import AdapterCatalog

VARIABLE = "INTRINSIC_REGISTRY"
DEFAULT = Path("adapters.db")
Where = str | Path


def place_of(registry: str | None, adapters_dir: Path | None) -> Where:
    """Where the registry is, or is to be made: a file or a URL.

    `--registry`, else `DIR.db` beside the folder of `--adapters-dir`, else what the settings name,
    in the same order, else `adapters.db`. Raises `ConfigError`.
    """
    return place_in(project_of(registry, adapters_dir))


def place_in(project: Project) -> Where:
    """As `place_of`, of settings that are loaded."""
    return project.registry or _default(project.adapters)


def find_place(project: Project) -> Where | None:
    """Where the registry is; None where none was named and there is none by default.

    Raises `ConfigError` where one was named that is not there.
    """
    if project.registry is None:
        file = _default(project.adapters)
        return file if file.exists() else None
    if not is_there(project.registry):
        raise ConfigError(_none(project.registry))
    return project.registry


def asked_place(project: Project) -> Where | None:
    """As `find_place`, for commands that use the bundled adapters where nothing is named."""
    if project.registry is not None or project.adapters is not None:
        return find_place(project)
    if DEFAULT.exists():
        tell(
            "intrinsic: the bundled adapters are used; "
            f"for those of {DEFAULT} name --registry {DEFAULT}"
        )
    return None


def need_place(registry: str | None, adapters_dir: Path | None) -> Where:
    """Where the registry is; raise `ConfigError`, which says how one is made, without one."""
    return place_needed(project_of(registry, adapters_dir))


def place_needed(project: Project) -> Where:
    """As `need_place`, of settings that are loaded."""
    place = find_place(project)
    if place is None:
        raise ConfigError(_none(_default(project.adapters)))
    return place


def is_there(where: Where) -> bool:
    """Whether that file exists; a server is taken to be there."""
    if isinstance(where, str) and "://" in where:
        from intrinsic.registry.store.location import Location

        file = Location.of(where).file
        return file is None or file.exists()
    return expanded(Path(where)).exists()


@asynccontextmanager
async def opened(where: Where, files: Path | None = None) -> AsyncIterator[AdapterCatalog]:
    """The catalog there; the file is made where it does not exist."""
    from intrinsic.registry.catalog import AdapterCatalog

    async with AdapterCatalog(where, files=files) as catalog:
        yield catalog


async def adapters_of(where: Where) -> AdapterRegistry:
    """The adapters that are registered there, to look at."""
    async with opened(where) as catalog:
        return catalog.live


def _default(adapters_dir: Path | None) -> Path:
    if adapters_dir is None:
        return DEFAULT
    folder = Path(os.path.abspath(expanded(adapters_dir)))
    if not folder.name:
        raise ConfigError(f"{adapters_dir} has no folder above it; name a file with --registry")
    return folder.with_name(f"{folder.name}.db")


def expanded(path: Path) -> Path:
    """The path with `~` replaced. Raises `ConfigError` where that has no meaning."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{path} cannot be found: {error}") from None


def _none(where: Where) -> str:
    return (
        f"there is no registry {where}; 'intrinsic adapters register PATH' makes one, in the file "
        "that --registry names"
    )
