"""The live view: what it puts into a registry, takes out of it, and tells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from intrinsic.card import AdapterCard
from intrinsic.errors import AdapterNotFoundError
from intrinsic.registry.entry import AdapterEntry
from intrinsic.registry.live_view import LiveView
from intrinsic.registry.registry import AdapterRegistry
from intrinsic.registry.store.records import LiveVersion
from tests.registry.cataloguing import Ear
from tests.registry.store.making import record


def version(key: str, *, active: bool = False, id: str = "") -> LiveVersion:
    name, _, number = key.partition("@")
    return LiveVersion(id or key, AdapterCard(name, number), Path("/x"), "base", "d", 1, active)


class Follower:
    """A live view that is told everything that is there."""

    def __init__(self) -> None:
        self.ear = Ear()
        self.registry = AdapterRegistry()
        self.view = LiveView(self.registry, self.ear.bus)

    def follow(self, versions: Iterable[LiveVersion], **deleted: datetime) -> int:
        there = {one.id: one for one in versions}
        missing = {
            one: replace(record(), deleted_at=deleted[one]) if one in deleted else None
            for one in self.view.missing(there)
        }
        return self.view.follow(there, missing)


def test_versions_come_with_their_card_path_and_base_model() -> None:
    to = Follower()
    one = version("a@1", active=True)
    assert to.follow([one, version("a@2")]) == 2
    assert to.registry.get_adapter("a") == AdapterEntry(one.card, one.path, "base")
    assert to.view.ids == {"a@1": "a@1", "a@2": "a@2"}
    assert to.follow([one, version("a@2")]) == 0
    assert to.ear.take() == [("registered", "a@1"), ("registered", "a@2"), ("activated", "a@1")]


@pytest.mark.parametrize(
    "change", [{"path": Path("/y")}, {"base_model": "b"}, {"digest": "e"}, {"bytes": 2}]
)
def test_every_change_is_taken_over_and_told(change: dict[str, object]) -> None:
    to = Follower()
    one = version("a@1")
    to.follow([one])
    to.ear.take()
    changed = replace(one, **change)  # type: ignore[arg-type]
    assert to.follow([changed]) == 1
    assert to.ear.take() == [("changed", "a@1")]
    entry = to.registry.get_adapter("a@1")
    assert (entry.path, entry.base_model) == (changed.path, changed.base_model)


def test_several_changes_of_one_version_are_told_each() -> None:
    to = Follower()
    to.follow([version("a@1", id="x")])
    to.ear.take()
    changed = replace(version("b@1", id="x", active=True), digest="e")
    assert to.follow([changed]) == 1
    assert to.ear.notices[0].reason == "it was a@1"
    assert to.ear.take() == [("renamed", "b@1"), ("changed", "b@1"), ("activated", "b@1")]
    assert to.view.ids == {"b@1": "x"}


def test_what_is_gone_says_when_it_was_deleted_where_that_is_known() -> None:
    to = Follower()
    to.follow([version("a@1"), version("a@2")])
    moment = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
    assert to.follow([], **{"a@1": moment}) == 2
    with pytest.raises(AdapterNotFoundError, match="'a@1' was deleted on 2026-03-04 05:06 UTC and"):
        to.registry.get_adapter("a@1")
    with pytest.raises(AdapterNotFoundError, match="'a@2' was deleted and can be used no more"):
        to.registry.get_adapter("a@2")
    assert len(to.registry) == 0
    assert to.view.ids == {}


def test_what_somebody_else_took_out_or_put_in_harms_nothing() -> None:
    to = Follower()
    to.registry.put(AdapterEntry(AdapterCard("own", "1"), Path("/own")))
    to.follow([version("a@1"), version("own@1", active=True)])
    to.registry.remove_adapter("a@1")
    assert to.follow([]) == 2
    assert len(to.registry) == 0


def test_versions_may_swap_their_names() -> None:
    to = Follower()
    to.follow([version("a@1", id="x", active=True), version("b@1", id="y")])
    assert to.follow([version("b@1", id="x", active=True), version("a@1", id="y")]) == 2
    assert to.view.ids == {"b@1": "x", "a@1": "y"}
    assert [entry.key for entry in to.registry.list_adapters()] == ["b@1"]
    assert to.registry.get_adapter("a@1").key == "a@1"


def test_without_a_bus_it_follows_too() -> None:
    registry = AdapterRegistry()
    view = LiveView(registry, None)
    assert view.follow({"x": version("a@1", id="x")}, {}) == 1
    assert registry.knows("a@1")
    assert view.missing({}, ["b"]) == []
    assert view.missing({}, ["a"]) == ["x"]


def test_an_observer_that_raises_does_not_stop_the_others() -> None:
    to = Follower()

    def raises(_: object) -> None:
        raise ValueError

    to.ear.bus.on("adapter.registered", raises)
    assert to.follow([version("a@1"), version("b@1")]) == 2
    assert to.ear.take() == [("registered", "a@1"), ("registered", "b@1")]
    assert to.ear.bus.statistics().observer_errors == 2
