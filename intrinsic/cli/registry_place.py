"""Which registry a command means: one that is named, or that beside the adapters' folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from intrinsic.cli.output import tell
from intrinsic.cli.settings import project_of
from intrinsic.config.place import DEFAULT, Where, named_place, place_in, place_needed

if TYPE_CHECKING:
    from intrinsic.config.sections import Project
    from intrinsic.registry import AdapterRegistry
    from intrinsic.registry.catalog import AdapterCatalog

VARIABLE = "INTRINSIC_REGISTRY"


def place_of(registry: str | None, adapters_dir: Path | None) -> Where:
    """Where the registry is, or is to be made: `place_in` of `--registry`, `--adapters-dir`."""
    return place_in(project_of(registry, adapters_dir))


def asked_place(project: Project) -> Where | None:
    """As `named_place`; where nothing is named, it says that the bundled adapters are used."""
    place = named_place(project)
    if project.registry is None and project.adapters is None and DEFAULT.exists():
        tell(
            "intrinsic: the bundled adapters are used; "
            f"for those of {DEFAULT} name --registry {DEFAULT}"
        )
    return place


def need_place(registry: str | None, adapters_dir: Path | None) -> Where:
    """Where the registry is; raise `ConfigError`, which says how one is made, without one."""
    return place_needed(project_of(registry, adapters_dir))


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
