"""The registry in memory, kept as the database says; every change is told to a bus's observers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from intrinsic.bus import MemoryBus, Notice, NoticeName
from intrinsic.registry.entry import AdapterEntry
from intrinsic.registry.registry import AdapterRegistry
from intrinsic.registry.store.lookup import when
from intrinsic.registry.store.records import LiveVersion, VersionRecord


class LiveView:
    """Puts versions into `registry` and takes them out; knows the id of each."""

    def __init__(self, registry: AdapterRegistry, bus: MemoryBus | None) -> None:
        self.registry = registry
        self.ids: dict[str, str] = {}  # by `name@version`
        self._bus = bus
        self._known: dict[str, LiveVersion] = {}  # by id

    @property
    def names(self) -> frozenset[str]:
        """The names that have a version."""
        return frozenset(one.card.name for one in self._known.values())

    def note(self, record: VersionRecord, name: NoticeName) -> None:
        """Take over what was written of a version, and say what that was."""
        version = LiveVersion(
            id=record.id,
            card=record.card,
            path=record.path,
            base_model=record.base_model,
            digest=record.digest,
            bytes=record.bytes,
            active=record.active,
        )
        before = self._known.get(version.id)
        if before is not None and before.key != version.key:
            self._forget(before, _renamed(before, version))
        self._put(version)
        self._tell(name, version.key)

    def gone(self, record: VersionRecord) -> None:
        """Take a deleted version out; whoever asks for it is told when that was."""
        version = self._known.get(record.id)
        if version is None:
            return
        moment = "" if record.deleted_at is None else f" on {when(record.deleted_at)}"
        self._forget(
            version,
            f"adapter {version.key!r} was deleted{moment} and can be used no more; "
            "use another version, or register it anew as one",
        )
        self._tell("adapter.deleted", version.key)

    def missing(self, there: Mapping[str, LiveVersion]) -> list[str]:
        """The ids of versions that are known and are not `there` any more."""
        return [version_id for version_id in self._known if version_id not in there]

    def follow(self, there: Mapping[str, LiveVersion]) -> int:
        """Take over all versions that are new or other than known; return how many."""
        changed = [one for one in there.values() if self._known.get(one.id) != one]
        before = {one.id: self._known.get(one.id) for one in changed}
        for version in changed:
            old = before[version.id]
            if old is not None and old.key != version.key:
                self._forget(old, _renamed(old, version))
        for version in changed:
            self._put(version)
            for name in _what_changed(before[version.id], version):
                self._tell(name, version.key)
        return len(changed)

    def _put(self, version: LiveVersion) -> None:
        self._known[version.id] = version
        self.ids[version.key] = version.id
        entry = AdapterEntry(version.card, version.path, version.base_model)
        self.registry.put(entry, active=version.active)

    def _forget(self, version: LiveVersion, why: str) -> None:
        del self._known[version.id]
        self.ids.pop(version.key, None)
        self.registry.remove_adapter(version.key, why=why)

    def _tell(self, name: NoticeName, key: str) -> None:
        if self._bus is not None:
            self._bus.tell(Notice(name, adapter=key))


def _renamed(before: LiveVersion, version: LiveVersion) -> str:
    return f"adapter {before.card.name!r} is called {version.card.name!r} now"


def _what_changed(before: LiveVersion | None, version: LiveVersion) -> Iterable[NoticeName]:
    if before is None:
        yield "adapter.registered"
        if version.active:
            yield "adapter.activated"
        return
    if before.key != version.key:
        yield "adapter.renamed"
    if before.active != version.active:
        yield "adapter.activated" if version.active else "adapter.deactivated"
    if (before.card.name, before.active) == (version.card.name, version.active):
        yield "adapter.changed"
