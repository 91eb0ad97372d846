"""The folders that adapters may lie in which clients name by path; nothing outside them is read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePath

import anyio.to_thread

from intrinsic.bundled import BUNDLED_NAME, adapters_path
from intrinsic.config.server_options import ServerOptions
from intrinsic.errors import CheckpointError, ConfigError
from intrinsic.registry.links import refuse_links_out
from intrinsic.server.envelope import ApiError
from intrinsic.system import System


class Folders:
    """Finds adapters in `roots` and below; one that is not there holds nothing."""

    def __init__(self, roots: Iterable[Path]) -> None:
        self.roots = tuple(dict.fromkeys(root.expanduser().absolute() for root in roots))

    @classmethod
    def of(cls, system: System, options: ServerOptions) -> Folders:
        """The folder of adapters, that of the registry's own copies, and those of the options."""
        project = system.settings.project
        roots = list(options.folders)
        if project.adapters is not None:
            roots.append(project.adapters)
        elif project.model in (None, BUNDLED_NAME):
            roots.append(adapters_path())
        if system.catalog is not None and (file := system.catalog.database.file) is not None:
            roots.append(file.with_name(f"{file.name}.files"))
        return cls(roots)

    async def find(self, asked: str) -> Path:
        """The folder that a client means, absolute or relative to one of `roots`, links followed.

        Raises a 404 where there is none; what lies elsewhere is not there, in the same words.
        """
        found = await anyio.to_thread.run_sync(self._find, asked)
        if found is None:
            raise ApiError(
                404,
                f"no adapter was found at {asked!r}; name a folder in one of those that this "
                "server offers adapters from",
            )
        return found

    def shown(self, path: Path) -> str:
        """What clients may see of an adapter's path: the part below the root that it lies in."""
        for root in self.roots:
            if path.is_relative_to(root) and path != root:
                return path.relative_to(root).as_posix()
        return path.name

    def _find(self, asked: str) -> Path | None:
        if not asked or not PurePath(asked).name:
            return None
        for root in self.roots:
            try:
                base = root.resolve()
                path = (base / asked).resolve()
                if path.is_relative_to(base) and path.is_dir():
                    refuse_links_out(path, base)
                    return path
            except (OSError, RuntimeError, ValueError, CheckpointError, ConfigError):
                continue
        return None
