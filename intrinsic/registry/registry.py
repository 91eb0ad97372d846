"""The adapters that are known, by name and version, and which of them are loaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from intrinsic.card import AdapterCard
from intrinsic.errors import (
    AdapterExistsError,
    AdapterNotFoundError,
    CheckpointError,
    ConfigError,
)
from intrinsic.registry.entry import CONFIG_NAME, AdapterEntry, read_entry, with_fields
from intrinsic.registry.links import refuse_links_out


@dataclass(frozen=True, slots=True)
class ScanProblem:
    """A folder that looks like an adapter and could not be registered, and why."""

    path: Path
    why: str


class AdapterRegistry:
    """Known adapters; nothing of their weights is read here.

    `max_loaded` is how many adapters the manager may keep on the device at once.
    Raises `ConfigError` where it is below 1.
    """

    def __init__(self, *, max_loaded: int = 3) -> None:
        if max_loaded < 1:
            raise ConfigError(f"max_loaded is {max_loaded}; it must be 1 or more")
        self.max_loaded = max_loaded
        self.problems: list[ScanProblem] = []
        self._entries: dict[str, AdapterEntry] = {}
        self._loaded: list[str] = []

    @classmethod
    def from_folder(cls, folder: str | Path, *, max_loaded: int = 3) -> AdapterRegistry:
        """Build a registry of all adapters in a folder; see `scan`."""
        registry = cls(max_loaded=max_loaded)
        registry.scan(folder)
        return registry

    def scan(self, folder: str | Path) -> list[AdapterEntry]:
        """Register every adapter in `folder` and its direct subfolders that is not known yet.

        Returns the new ones. An adapter that cannot be registered is kept in `problems` with the
        reason, and the rest is registered: so one whose folder or files are links that lead out of
        `folder`. Raises `ConfigError` where there is no such folder.
        """
        root = _expanded(folder)
        if not root.is_dir():
            raise ConfigError(f"adapters folder {root} does not exist; pass an existing folder")
        known = {entry.path.resolve() for entry in self._entries.values()}
        added = []
        for path in sorted([root, *root.iterdir()]):
            try:
                if (path / CONFIG_NAME).is_file() and path.resolve() not in known:
                    refuse_links_out(path, root)
                    added.append(self.register_adapter(path))
            except (CheckpointError, ConfigError, AdapterExistsError) as error:
                self.problems.append(ScanProblem(path, str(error)))
            except OSError as error:
                self.problems.append(ScanProblem(path, f"{path} cannot be read: {error}"))
        return added

    def register_adapter(
        self,
        path: str | Path,
        *,
        name: str | None = None,
        version: str | None = None,
        domain: str | None = None,
        description: str | None = None,
        keywords: Sequence[str] | None = None,
        examples: Sequence[str] | None = None,
    ) -> AdapterEntry:
        """Make an adapter known; what is given here wins over its card.

        It can be routed to at once. Raises `CheckpointError` or `ConfigError` where the folder or
        the card is not sound, `AdapterExistsError` where name and version are taken.
        """
        entry = with_fields(
            read_entry(_expanded(path)),
            {
                "name": name,
                "version": version,
                "domain": domain,
                "description": description,
                "keywords": keywords,
                "examples": examples,
            },
        )
        if entry.key in self._entries:
            raise AdapterExistsError(
                f"adapter {entry.name!r} version {entry.card.version!r} is registered already; "
                f"the next free version is {self._next_version(entry.card)!r}"
            )
        self._entries[entry.key] = entry
        return entry

    def remove_adapter(self, name: str) -> AdapterEntry:
        """Forget an adapter: it is routed to no more. Raises `AdapterNotFoundError`."""
        return self._entries.pop(self.get_adapter(name).key)

    def get_adapter(self, name: str) -> AdapterEntry:
        """Return the adapter `name@version`, or the newest version of `name`.

        Raises `AdapterNotFoundError` with the known names.
        """
        if name in self._entries:
            return self._entries[name]
        versions = [entry for entry in self._entries.values() if entry.name == name]
        if not versions:
            raise AdapterNotFoundError.of(name, {e.name for e in self._entries.values()})
        return max(versions, key=lambda entry: _order(entry.card.version))

    def knows(self, name: str) -> bool:
        """Whether there is an adapter of that name, or `name@version`."""
        return name in self._entries or any(e.name == name for e in self._entries.values())

    def find_path(self, path: Path) -> AdapterEntry | None:
        """The adapter, of any version, whose files lie in that folder."""
        resolved = path.expanduser().resolve()
        found = (e for e in self._entries.values() if e.path.resolve() == resolved)
        return next(found, None)

    def get_adapters_for_domain(self, domain: str) -> list[AdapterEntry]:
        """Return the adapters of a domain, by name; upper and lower case are the same."""
        return [e for e in self.list_adapters() if e.card.domain.lower() == domain.lower()]

    def list_adapters(self) -> list[AdapterEntry]:
        """Return the newest version of every adapter, by name."""
        names = sorted({entry.name for entry in self._entries.values()})
        return [self.get_adapter(name) for name in names]

    @property
    def loaded_adapters(self) -> tuple[str, ...]:
        """The adapters on the device, `name@version`, least recently loaded first."""
        return tuple(self._loaded)

    def mark_loaded(self, key: str) -> None:
        """Note that an adapter is on the device; the manager calls this."""
        if key not in self._loaded:
            self._loaded.append(key)

    def mark_unloaded(self, key: str) -> None:
        """Note that an adapter left the device; the manager calls this."""
        if key in self._loaded:
            self._loaded.remove(key)

    def _next_version(self, card: AdapterCard) -> str:
        taken = {entry.card.version for entry in self._entries.values() if entry.name == card.name}
        head, number = re.match(r"^(.*?)(\d*)$", card.version, re.DOTALL).groups()  # type: ignore[union-attr]
        count = int(number or 0) + 1
        while f"{head}{count}" in taken:
            count += 1
        return f"{head}{count}"

    def __len__(self) -> int:
        """How many adapter versions are known."""
        return len(self._entries)


def _expanded(path: str | Path) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{path} cannot be found: {error}") from None


def _order(version: str) -> list[tuple[int, int, str]]:
    """Sort versions by their numbers: 1.10 is newer than 1.9."""
    parts = re.findall(r"\d+|\D+", version)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]
