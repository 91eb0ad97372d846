"""Where the registry is that settings mean: the one that is named, or that beside the adapters."""

from __future__ import annotations

import os
from pathlib import Path

from intrinsic.config.sections import Project
from intrinsic.errors import ConfigError

DEFAULT = Path("adapters.db")
Where = str | Path
"""A SQLite file, or a URL."""


def place_in(project: Project) -> Where:
    """Where the registry is, or is to be made.

    The one that is named, else `DIR.db` beside the folder of adapters, else `adapters.db`. Raises
    `ConfigError`.
    """
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


def named_place(project: Project) -> Where | None:
    """As `find_place`; None where neither a registry nor a folder of adapters was named.

    The bundled adapters are meant then, whatever lies in the working directory.
    """
    if project.registry is None and project.adapters is None:
        return None
    return find_place(project)


def place_needed(project: Project) -> Where:
    """As `find_place`; raises `ConfigError`, which says how one is made, without one."""
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


def expanded(path: Path) -> Path:
    """The path with `~` replaced. Raises `ConfigError` where that has no meaning."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{path} cannot be found: {error}") from None


def _default(adapters_dir: Path | None) -> Path:
    if adapters_dir is None:
        return DEFAULT
    folder = Path(os.path.abspath(expanded(adapters_dir)))
    if not folder.name:
        raise ConfigError(f"{adapters_dir} has no folder above it; name a file with --registry")
    return folder.with_name(f"{folder.name}.db")


def _none(where: Where) -> str:
    return (
        f"there is no registry {where}; 'intrinsic adapters register PATH' makes one, in the file "
        "that --registry names"
    )
