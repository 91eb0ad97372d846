"""The adapters that are known, by name and version, and which of them are loaded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from intrinsic.errors import (
    AdapterExistsError,
    AdapterNotFoundError,
    CheckpointError,
    ConfigError,
)
from intrinsic.registry.entry import CONFIG_NAME, AdapterEntry, read_entry, with_fields
from intrinsic.registry.links import refuse_links_out
from intrinsic.registry.store.numbering import next_free, version_order


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
        self._versions: dict[str, dict[str, AdapterEntry]] = {}  # by name, then by key
        self._active: dict[str, set[str]] = {}  # keys, of names whose versions are switched
        self._gone: dict[str, str] = {}  # why a version that was known cannot be used
        self._listed: list[AdapterEntry] | None = None
        self._loaded: list[str] = []
        self.fit: Callable[[AdapterEntry], Awaitable[None]] | None = None
        """Asked before an adapter is loaded; raises `IncompatibleAdapterError`."""

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
        the card is not sound, `AdapterExistsError` where name and version are taken,
        `AdapterNotFoundError` where a catalog deleted or renamed that version.
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
            taken = {known.card.version for known in self._versions[entry.name].values()}
            raise AdapterExistsError(
                f"adapter {entry.name!r} version {entry.card.version!r} is registered already; "
                f"the next free version is {next_free(entry.card.version, taken)!r}"
            )
        if entry.key in self._gone:
            raise AdapterNotFoundError(self._gone[entry.key])
        self.put(entry)
        return entry

    def put(self, entry: AdapterEntry, *, active: bool | None = None) -> None:
        """Make an entry known, in place of one of the same name and version.

        `active` says whether routing may choose it, and whether its name means it. Where no
        version of a name was ever given an `active`, the newest one is.
        """
        known = entry.key in self._entries
        self._entries[entry.key] = entry
        versions = self._versions.setdefault(entry.name, {})
        versions[entry.key] = entry
        self._gone.pop(entry.key, None)
        if active is False and not known and (entry.name in self._active or len(versions) == 1):
            self._active.setdefault(entry.name, set())
            return  # nothing that routing sees has changed
        self._listed = None
        if active is not None:
            self.set_active(entry.key, active)

    def set_active(self, key: str, active: bool) -> None:
        """Switch a version (`name@version`) on or off. Raises `AdapterNotFoundError`."""
        keys = self._active.setdefault(self.get_adapter(key).name, set())
        (keys.add if active else keys.discard)(key)
        self._listed = None

    def is_active(self, key: str) -> bool:
        """Whether routing may choose that version (`name@version`)."""
        entry = self._entries.get(key)
        if entry is None:
            return False
        active = self._active.get(entry.name)
        if active is None:
            return entry is _newest(self._versions[entry.name].values())
        return key in active

    def remove_adapter(self, name: str, *, why: str = "") -> AdapterEntry:
        """Forget an adapter: it is routed to no more. Raises `AdapterNotFoundError`.

        With `why`, a sentence, whoever asks for that version is told so.
        """
        entry = self.get_adapter(name)
        if self.is_active(entry.key):
            self._listed = None
        del self._entries[entry.key]
        del self._versions[entry.name][entry.key]
        self._active.get(entry.name, set()).discard(entry.key)
        if not self._versions[entry.name]:
            del self._versions[entry.name]
            self._active.pop(entry.name, None)
        if why:
            self._gone[entry.key] = why
        return entry

    def get_adapter(self, name: str) -> AdapterEntry:
        """Return the adapter `name@version`, or the newest active version of `name`.

        Raises `AdapterNotFoundError` with the known names, or with the versions of a name of
        which none is active.
        """
        if name in self._entries:
            return self._entries[name]
        if name in self._gone:
            raise AdapterNotFoundError(self._gone[name])
        versions = self._versions.get(name)
        if versions is None:
            raise AdapterNotFoundError.of(name, self._versions)
        active = self._active.get(name)
        if active is None:
            return _newest(versions.values())
        if not active:
            listed = ", ".join(entry.key for entry in sorted(versions.values(), key=_place))
            raise AdapterNotFoundError(
                f"adapter {name!r} has no active version; name one of {listed}, or activate one "
                f"with 'intrinsic adapters activate'"
            )
        return _newest(versions[key] for key in active)

    def knows(self, name: str) -> bool:
        """Whether there is an adapter of that name, or `name@version`."""
        return name in self._entries or name in self._versions

    def find_path(self, path: Path) -> AdapterEntry | None:
        """The adapter, of any version, whose files lie in that folder."""
        resolved = path.expanduser().resolve()
        entries = (e for e in self._entries.values() if not e.made)
        found = (e for e in entries if e.path.resolve() == resolved)
        return next(found, None)

    def get_adapters_for_domain(self, domain: str) -> list[AdapterEntry]:
        """Return the adapters of a domain, by name; upper and lower case are the same."""
        return [e for e in self.list_adapters() if e.card.domain.lower() == domain.lower()]

    def list_adapters(self) -> list[AdapterEntry]:
        """Return what routing may choose, by name: the active versions, or else the newest."""
        if self._listed is None:
            found: list[AdapterEntry] = []
            for name in sorted(self._versions):
                versions, active = self._versions[name], self._active.get(name)
                if active is None:
                    found.append(_newest(versions.values()))
                else:
                    found.extend(sorted((versions[key] for key in active), key=_place))
            self._listed = found
        return list(self._listed)

    def versions(self, name: str) -> list[AdapterEntry]:
        """Return all known versions of a name, oldest first; none of an unknown one."""
        return sorted(self._versions.get(name, {}).values(), key=_place)

    def all_versions(self) -> list[AdapterEntry]:
        """Return every known version, by name, oldest first."""
        return [entry for name in sorted(self._versions) for entry in self.versions(name)]

    async def demand_fit(self, key: str) -> None:
        """Raise `IncompatibleAdapterError` for an adapter that `fit` says is for another model.

        One that was made in memory was made for this one.
        """
        if self.fit is not None and not (entry := self.get_adapter(key)).made:
            await self.fit(entry)

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

    def __len__(self) -> int:
        """How many adapter versions are known."""
        return len(self._entries)


def _expanded(path: str | Path) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{path} cannot be found: {error}") from None


def _newest(entries: Iterable[AdapterEntry]) -> AdapterEntry:
    return max(entries, key=_place)


def _place(entry: AdapterEntry) -> tuple[str, str]:
    version = entry.card.version
    return version_order(version), version
