"""Versions are added once, found by name, and every change is kept in the history."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import update

from intrinsic.card import AdapterCard
from intrinsic.errors import AdapterExistsError, AdapterNotFoundError, ConfigError, RegistryError
from intrinsic.registry.provenance import Provenance, TrainingData
from intrinsic.registry.store.database import Database
from intrinsic.registry.store.records import VersionRecord
from intrinsic.registry.store.schema import VERSIONS
from intrinsic.registry.store.versions import Versions
from tests.bus.backends import both_backends
from tests.registry.store.making import record

CARD = AdapterCard(
    "sql", "1.2.0", "Coding", "writes SQL", ("select",), ("count the rows",), threshold=0.0
)


@both_backends
async def test_a_version_comes_back_as_it_was(where: str) -> None:
    full = VersionRecord(
        card=CARD,
        path=Path("/data/é"),
        digest="ab" * 32,
        bytes=2**40,
        base_model="base/model",
        inspection={"modules": {"q_proj": [8, 16]}, "ranks": [4]},
        provenance=Provenance(data=TrainingData("rows", rows=9), seed=1, final_loss=0.5),
        copied=True,
        trained_here=True,
        active=True,
    )
    async with Database(where) as database:
        added = await Versions(database).add(full)
    async with Database(where) as database:
        kept = await Versions(database).get("sql@1.2.0")
        (live,) = await Versions(database).all_live()
    assert added == kept == full
    assert kept.inspection == {"modules": {"q_proj": [8, 16]}, "ranks": [4]}
    assert kept.created_at.tzinfo is UTC
    assert (kept.key, kept.is_deleted) == ("sql@1.2.0", False)
    assert (live.key, live.card, live.path) == (full.key, full.card, full.path)
    assert (live.id, live.digest, live.bytes) == (full.id, full.digest, full.bytes)
    assert (live.base_model, live.active) == ("base/model", True)


@both_backends
async def test_a_taken_version_is_refused_with_the_next_free_one(where: str) -> None:
    async with Database(where) as database:
        versions = Versions(database)
        for key in ("sql@1.0.0", "sql@1.0.1", "math@7", "sql@1.0.2"):
            added = await versions.add(record(key))
        await versions.delete(added.id)
        with pytest.raises(AdapterExistsError, match=r"'sql' version '1.0.0'.*'1\.0\.3'"):
            await versions.add(record("sql@1.0.0"))
        with pytest.raises(AdapterExistsError, match=r"'math' version '7' is registered.*'8'"):
            await versions.add(record("math@7"))
        with pytest.raises(AdapterExistsError, match=r"'1\.0\.2' was deleted on \d.* not used"):
            await versions.add(record("sql@1.0.2"))
        assert [len(await versions.history(name)) for name in ("sql", "math")] == [4, 1]


@both_backends
async def test_many_are_added_at_once_and_each_refusal_is_said(where: str) -> None:
    async with Database(where) as database:
        versions = Versions(database)
        await versions.add(record("sql@1"))
        new = [record("sql@2"), record("sql@1"), record("math@1"), record("sql@2")]
        outcome = await versions.add_many(new)
        assert [type(one) for one in outcome] == [
            type(None), AdapterExistsError, type(None), AdapterExistsError,
        ]  # fmt: skip
        assert "'sql' version '1'" in str(outcome[1])
        assert "next free version is '3'" in str(outcome[3])
        assert [live.key for live in await versions.all_live()] == ["math@1", "sql@1", "sql@2"]
        assert await versions.add_many([]) == ()


@both_backends
async def test_a_name_means_the_active_version_else_the_newest(where: str) -> None:
    async with Database(where) as database:
        versions = Versions(database)
        added = {key: await versions.add(record(key)) for key in ("a@1.9", "a@1.10", "a@1.2")}
        assert (await versions.get("a")).key == "a@1.10"
        await versions.set_active(added["a@1.2"].id, True)
        assert (await versions.get("a")).key == "a@1.2"
        await versions.set_active(added["a@1.9"].id, True, only=False)
        assert (await versions.get("a")).key == "a@1.9"
        assert (await versions.get("a@1.10")).key == "a@1.10"


@both_backends
async def test_a_card_of_a_newer_library_is_refused_in_words(where: str) -> None:
    async with Database(where) as database:
        versions = Versions(database)
        await versions.add(record("sql@1"))
        new = update(VERSIONS).values(card={"name": "sql", "mood": "good"})
        await database.write(lambda connection: connection.execute(new))
        for reading in (versions.get("sql"), versions.all_live()):
            with pytest.raises(RegistryError, match=r"'sql' .* unknown fields \['mood'\]"):
                await reading


@both_backends
async def test_what_is_not_known_is_said(where: str) -> None:
    async with Database(where) as database:
        versions = Versions(database)
        with pytest.raises(AdapterNotFoundError, match="known: none"):
            await versions.get("sql")
        await versions.add(record("sql@1"))
        with pytest.raises(AdapterNotFoundError, match="'sqll'; did you mean 'sql'"):
            await versions.get("sqll")
        with pytest.raises(AdapterNotFoundError, match="no version '2'; it has 1"):
            await versions.get("sql@2")
        with pytest.raises(AdapterNotFoundError, match="'nobody'"):
            await versions.set_active("nobody", True)
        with pytest.raises(AdapterNotFoundError, match="'math'"):
            await versions.history("math")
        with pytest.raises(AdapterNotFoundError, match="'math'"):
            await versions.rename("math", "maths")


@both_backends
async def test_activating_a_version_switches_the_others_of_its_name_off(where: str) -> None:
    async with Database(where) as database:
        versions = Versions(database)
        one, two, other = [await versions.add(record(key)) for key in ("a@1", "a@2", "b@1")]
        await versions.set_active(other.id, True)
        assert await versions.set_active(one.id, True) == (replace(one, active=True),)
        assert await versions.set_active(one.id, True) == ()
        assert await versions.set_active(two.id, True) == (replace(two, active=True), one)
        await versions.set_active(one.id, True, only=False)
        assert [live.key for live in await versions.all_live() if live.active] == [
            "a@1", "a@2", "b@1",
        ]  # fmt: skip
        assert await versions.set_active(two.id, False) == (two,)
        events = [one.event for one in await versions.history("a@1")]
        assert events == ["registered", "activated", "deactivated", "activated"]
        because = (await versions.history("a@1"))[2].detail
        assert because == {"because": "a@2 was activated"}


@both_backends
async def test_a_deleted_version_cannot_be_used_and_its_history_stays(where: str) -> None:
    async with Database(where) as database:
        versions = Versions(database)
        one, two = [await versions.add(record(key, active=True)) for key in ("a@1", "a@2")]
        before = datetime.now(UTC)
        deleted = await versions.delete(two.id)
        assert deleted.is_deleted
        assert not deleted.active
        assert deleted.deleted_at is not None
        assert before <= deleted.deleted_at <= datetime.now(UTC)
        said = f"'a@2' was deleted on {deleted.deleted_at:%Y-%m-%d}"
        with pytest.raises(AdapterNotFoundError, match=said):
            await versions.get("a@2")
        changes: list[Callable[[], Awaitable[object]]] = [
            lambda: versions.set_active(two.id, True),
            lambda: versions.update_card(two.id, two.card),
            lambda: versions.set_digest(two.id, ""),
            lambda: versions.delete(two.id),
        ]
        for change in changes:
            with pytest.raises(AdapterNotFoundError, match=said):
                await change()
        assert (await versions.get("a")).key == "a@1"
        await versions.delete(one.id)
        with pytest.raises(AdapterNotFoundError, match="'a@2' was deleted"):
            await versions.get("a")
        assert await versions.all_live() == ()
        assert (await versions.by_ids([two.id, "nobody"])) == {two.id: deleted}
        events = [one.event for one in await versions.history("a")]
        assert events == ["registered", "registered", "deleted", "deleted"]


@both_backends
async def test_a_rename_takes_all_versions_and_their_history_along(where: str) -> None:
    async with Database(where) as database:
        versions = Versions(database)
        for key in ("a@1", "a@2", "a@3", "b@9"):
            added = await versions.add(record(key, domain="Math"))
        await versions.delete((await versions.get("a@3")).id)
        renamed = await versions.rename("a", "c")
        assert [one.key for one in renamed] == ["c@1", "c@2"]
        assert (await versions.get("c@2")).card == AdapterCard("c", "2", "Math")
        with pytest.raises(AdapterNotFoundError, match="'a'"):
            await versions.get("a")
        with pytest.raises(AdapterExistsError, match="'3' was deleted"):
            await versions.add(record("c@3"))
        assert [one.event for one in await versions.history("c@2")] == [
            "registered", "renamed",
        ]  # fmt: skip
        await versions.delete(added.id)
        for taken in ("b", "c"):
            with pytest.raises(AdapterExistsError, match="choose a name"):
                await versions.rename("c", taken)
        for wrong in ("", "x@y"):
            with pytest.raises(ConfigError, match="name"):
                await versions.rename("c", wrong)
        with pytest.raises(ConfigError, match="name alone"):
            await versions.rename("c@1", "d")
        assert [live.key for live in await versions.all_live()] == ["c@1", "c@2"]


@both_backends
async def test_a_card_and_a_digest_are_replaced_and_what_they_were_is_noted(where: str) -> None:
    async with Database(where) as database:
        versions = Versions(database)
        one = await versions.add(record("sql@1", domain="Math"))
        card = replace(one.card, domain="Coding", examples=("count",))
        changed = await versions.update_card(one.id, card)
        assert changed == replace(one, card=card)
        await versions.update_card(one.id, card)
        with pytest.raises(ConfigError, match="'sql@1' says 'sql@2'"):
            await versions.update_card(one.id, replace(card, version="2"))
        fresh = await versions.set_digest(one.id, "e" * 64, bytes=5, inspection={"ranks": [2]})
        await versions.set_digest(one.id, "e" * 64)
        assert await versions.get("sql") == fresh
        assert (fresh.digest, fresh.bytes, fresh.inspection) == ("e" * 64, 5, {"ranks": [2]})
        noted = [(change.event, change.detail) for change in await versions.history("sql@1")]
        assert noted[1:] == [
            ("card", {"before": {"domain": "Math", "examples": []}}),
            ("digest", {"before": "d" * 64, "after": "e" * 64}),
        ]
