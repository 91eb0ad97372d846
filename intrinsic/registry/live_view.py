"""The registry in memory, kept as the database says; every change is told to a bus's observers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

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
        self.former: dict[str, str] = {}  # of keys that are deleted or renamed
        self._bus = bus
        self._known: dict[str, LiveVersion] = {}  # by id

    def names_of(self, ids: Iterable[str]) -> set[str]:
        """What the known ones of these versions are called here."""
        return {self._known[one].card.name for one in ids if one in self._known}

    def missing(
        self, there: Mapping[str, LiveVersion], names: Collection[str] | None = None
    ) -> list[str]:
        """The ids of known versions, of these names or all, that are not `there` any more."""
        return [
            version_id
            for version_id, one in self._known.items()
            if version_id not in there and (names is None or one.card.name in names)
        ]

    def follow(
        self, there: Mapping[str, LiveVersion], missing: Mapping[str, VersionRecord | None]
    ) -> int:
        """Take over what is new or other than known; return how many versions that are.

        `missing` are known ones that are not `there`: deleted, or of another name by now. What is
        told comes last, when all is in place: first what was deleted and renamed, then what is
        new, then what is switched off and on.
        """
        there = dict(there)
        notices: list[Notice] = []
        for version_id, record in missing.items():
            if record is not None and record.deleted_at is None:
                there[version_id] = _live(record)
            else:
                notices.append(self._gone(version_id, record))
        gone = len(notices)
        changed = [(self._known.get(one.id), one) for one in there.values()]
        changed = [(before, one) for before, one in changed if before != one]
        for before, one in changed:
            if before is not None and before.key != one.key:
                self._forget(before, f"adapter {before.key!r} is called {one.key!r} now")
        for _, one in changed:
            self._put(one)
        if self._bus is not None:
            notices += (notice for pair in changed for notice in _what_changed(*pair))
            for notice in sorted(notices, key=_turn):
                self._bus.tell(notice)
        return len(changed) + gone

    def _gone(self, version_id: str, record: VersionRecord | None) -> Notice:
        version = self._known[version_id]
        moment = record and record.deleted_at
        self._forget(
            version,
            f"adapter {version.key!r} was deleted{f' on {when(moment)}' if moment else ''} and can "
            "be used no more; use another version, or register it anew as one",
        )
        return Notice("adapter.deleted", adapter=version.key)

    def _put(self, version: LiveVersion) -> None:
        self._known[version.id] = version
        self.ids[version.key] = version.id
        entry = AdapterEntry(version.card, version.path, version.base_model)
        self.registry.put(entry, active=version.active)

    def _forget(self, version: LiveVersion, why: str) -> None:
        del self._known[version.id]
        self.former[version.key] = self.ids.pop(version.key)
        if self.registry.knows(version.key):  # else somebody took it out by hand
            self.registry.remove_adapter(version.key, why=why)


def _live(record: VersionRecord) -> LiveVersion:
    return LiveVersion(
        id=record.id,
        card=record.card,
        path=record.path,
        base_model=record.base_model,
        digest=record.digest,
        bytes=record.bytes,
        active=record.active,
    )


def _what_changed(before: LiveVersion | None, version: LiveVersion) -> Iterable[Notice]:
    key = version.key
    if before is None:
        yield Notice("adapter.registered", adapter=key)
        if version.active:
            yield Notice("adapter.activated", adapter=key)
        return
    if before.key != key:
        yield Notice("adapter.renamed", adapter=key, reason=f"it was {before.key}")
    if before.active != version.active:
        yield Notice("adapter.activated" if version.active else "adapter.deactivated", adapter=key)
    if _rest(before) != _rest(version):
        yield Notice("adapter.changed", adapter=key)


def _rest(version: LiveVersion) -> LiveVersion:
    """What of it is neither its name nor whether it is active."""
    return replace(version, card=replace(version.card, name="-"), active=False)


def _turn(notice: Notice) -> int:
    return _ORDER.index(notice.name)


_ORDER: tuple[NoticeName, ...] = (
    "adapter.deleted",
    "adapter.renamed",
    "adapter.registered",
    "adapter.changed",
    "adapter.deactivated",
    "adapter.activated",
)
