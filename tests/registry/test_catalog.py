"""The catalog: adapters registered, switched, renamed and deleted, and routing follows at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from intrinsic.card import AdapterCard
from intrinsic.errors import (
    AdapterExistsError,
    AdapterNotFoundError,
    CheckpointError,
    ConfigError,
    RegistryError,
)
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.provenance import Provenance
from intrinsic.registry.registering import Newcomer
from intrinsic.registry.registry import AdapterRegistry
from intrinsic.registry.store.listing import ListQuery
from intrinsic.routing.keyword import KeywordRouter
from tests.bus.backends import both_backends
from tests.registry.cataloguing import Ear, adapter, demand_agreement, newcomer
from tests.registry.store.making import record


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return adapter(tmp_path / "sql", base_model_name_or_path="org/base")


@both_backends
async def test_the_first_version_of_a_name_is_active_and_later_ones_are_not(
    where: str, folder: Path
) -> None:
    ear = Ear()
    async with AdapterCatalog(where, bus=ear.bus) as catalog:
        first = await catalog.register(Newcomer(folder, domain="Coding", keywords=["select"]))
        assert (first.key, first.active, first.base_model) == ("sql@1", True, "org/base")
        assert first == await catalog.get("sql")
        assert catalog.live.get_adapter("sql").card.keywords == ("select",)
        assert ear.take() == [("registered", "sql@1"), ("activated", "sql@1")]
        later = await catalog.register(newcomer(folder, "sql@2"))
        assert not later.active
        assert ear.take() == [("registered", "sql@2")]
        assert await demand_agreement(catalog) == ["sql@1+", "sql@2"]
        assert catalog.live.get_adapter("sql").key == "sql@1"
        third = await catalog.register(newcomer(folder, "sql@3"), activate=True)
        assert third.active
        assert ear.take() == [
            ("registered", "sql@3"), ("deactivated", "sql@1"), ("activated", "sql@3"),
        ]  # fmt: skip
        assert not (await catalog.register(newcomer(folder, "new@1"), activate=False)).active
        assert await demand_agreement(catalog) == ["new@1", "sql@1", "sql@2", "sql@3+"]
        assert [one.event for one in await catalog.history("sql@1")] == [
            "registered", "activated", "deactivated",
        ]  # fmt: skip
        for key in ("sql@1", "sql@2", "sql@3", "new@1"):
            await catalog.delete(key)
        assert (await catalog.register(newcomer(folder, "sql@4"))).active


@both_backends
async def test_a_taken_version_is_refused_with_the_next_free_one_and_nothing_changes(
    where: str, tmp_path: Path, folder: Path
) -> None:
    ear = Ear()
    async with AdapterCatalog(where, bus=ear.bus, files=tmp_path / "files") as catalog:
        await catalog.register(newcomer(folder, "sql@1.0.0", domain="first"))
        await catalog.delete((await catalog.register(newcomer(folder, "sql@1.0.1"))).key)
        ear.take()
        for copy in (False, True):
            for activate in (None, True, False):
                again = newcomer(folder, "sql@1.0.0", domain="second")
                with pytest.raises(AdapterExistsError, match=r"next free version is '1\.0\.2'"):
                    await catalog.register(again, copy=copy, activate=activate)
        with pytest.raises(AdapterExistsError, match=r"'1\.0\.1' was deleted"):
            await catalog.register(newcomer(folder, "sql@1.0.1"))
        (folder / "adapter_model.safetensors").write_bytes(b"broken")
        with pytest.raises(CheckpointError):
            await catalog.register(newcomer(folder, "sql@2"))
        assert await demand_agreement(catalog) == ["sql@1.0.0+"]
        assert ear.take() == []
        assert catalog.live.get_adapter("sql").card.domain == "first"
        assert len(await catalog.history("sql")) == 4
        assert list((tmp_path / "files").glob("*")) == []


@both_backends
async def test_copies_live_in_the_registrys_own_folder(
    where: str, tmp_path: Path, folder: Path
) -> None:
    files = tmp_path / "files"
    async with AdapterCatalog(where, files=files) as catalog:
        kept = await catalog.register(Newcomer(folder), copy=True)
        assert kept.copied
        assert kept.active
        assert kept.path == files / kept.id
        assert catalog.live.get_adapter("sql").path == kept.path
        assert {path.name for path in kept.path.iterdir()} >= {"adapter_config.json"}
        assert await catalog.get("sql") == kept
    (files / ".incoming-stale").mkdir()
    async with AdapterCatalog(where, files=files) as catalog:
        assert [path.name for path in files.iterdir()] == [kept.id]
        assert await demand_agreement(catalog) == ["sql@1+"]


@both_backends
async def test_a_file_that_changes_while_it_is_copied_is_refused(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AdapterCatalog(tmp_path / "r.db") as catalog:
        fill = type(catalog._own_files).add

        async def changed(self: object, record: object, **options: object) -> object:
            adapter(folder, lora_alpha=99)
            return await fill(self, record, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(type(catalog._own_files), "add", changed)
        with pytest.raises(CheckpointError, match="changed while it was registered"):
            await catalog.register(Newcomer(folder), copy=True)
        assert await demand_agreement(catalog) == []


@both_backends
async def test_copies_beside_a_server_need_a_folder(folder: Path) -> None:
    catalog = AdapterCatalog("postgresql://nobody@nowhere.invalid/none")
    with pytest.raises(ConfigError, match="name one with --files"):
        await catalog.keep(record(path=folder), copy=True)


@both_backends
async def test_rubbish_that_cannot_be_swept_does_not_keep_the_registry_shut(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "files").write_text("no folder")
    async with AdapterCatalog(tmp_path / "r.db", files=tmp_path / "files") as catalog:
        await catalog.keep(record("a@1"))

        async def sweep() -> tuple[str, ...]:
            raise RegistryError("it cannot be put in order")

        catalog._own_files.sweep = sweep  # type: ignore[method-assign]
    async with catalog:
        assert await demand_agreement(catalog) == ["a@1+"]
    assert "it cannot be put in order" in caplog.text


@both_backends
async def test_many_are_registered_in_one_transaction(where: str) -> None:
    ear = Ear()
    async with AdapterCatalog(where, bus=ear.bus) as catalog:
        await catalog.keep(record("old@1"))
        await catalog.keep(record("gone@3"))
        await catalog.delete("gone@3")
        ear.take()
        keys = ["a@1.9", "a@1.10", "a@1.2", "old@2", "old@1", "b@1", "b@1", "gone@2", "gone@3"]
        refusals = await catalog.register_all([record(key) for key in keys])
        refused = [key for key, why in zip(keys, refusals, strict=True) if why is not None]
        assert refused == ["old@1", "b@1", "gone@3"]
        assert await demand_agreement(catalog) == [
            "a@1.2", "a@1.9", "a@1.10+", "b@1+", "gone@2+", "old@1+", "old@2",
        ]  # fmt: skip
        told = ear.take()
        assert told[:6] == [
            ("registered", key) for key in ("a@1.2", "a@1.9", "a@1.10", "b@1", "gone@2", "old@2")
        ]
        assert told[6:] == [("activated", key) for key in ("a@1.10", "b@1", "gone@2")]
        await catalog.register_all([record("old@4"), record("old@3")], activate=True)
        await catalog.register_all([record("c@1")], activate=False)
        assert (await catalog.register_all([])) == ()
        assert (await demand_agreement(catalog))[-5:] == [
            "gone@2+", "old@1", "old@2", "old@3", "old@4+",
        ]  # fmt: skip
        assert not catalog.live.is_active("c@1")


@both_backends
async def test_switching_a_version_on_switches_the_others_off_unless_asked(where: str) -> None:
    ear = Ear()
    async with AdapterCatalog(where, bus=ear.bus) as catalog:
        await catalog.register_all([record("a@1"), record("a@2"), record("b@1")])
        ear.take()
        assert (await catalog.activate("a@1")).active
        assert ear.take() == [("deactivated", "a@2"), ("activated", "a@1")]
        assert (await catalog.activate("a@1")).active
        assert ear.take() == []
        await catalog.activate("a@2", only=False)
        assert await demand_agreement(catalog) == ["a@1+", "a@2+", "b@1+"]
        assert catalog.live.get_adapter("a").key == "a@2"
        assert not (await catalog.deactivate("a")).active
        assert catalog.live.get_adapter("a").key == "a@1"
        ear.take()
        await catalog.deactivate("a@1")
        await catalog.deactivate("a@1")
        assert ear.take() == [("deactivated", "a@1")]
        with pytest.raises(AdapterNotFoundError, match="'a' has no active version; name one of"):
            catalog.live.get_adapter("a")
        assert catalog.live.get_adapter("a@1").key == "a@1"
        assert (await catalog.activate("a")).key == "a@2"
        assert await demand_agreement(catalog) == ["a@1", "a@2+", "b@1+"]


@both_backends
async def test_routing_sees_what_is_active_at_the_next_request(where: str) -> None:
    async with AdapterCatalog(where) as catalog:
        for key, examples in {"sql@1": ("count rows",), "law@1": ("read the clause",)}.items():
            one = record(key)
            await catalog.keep(replace(one, card=replace(one.card, examples=examples)))
        router = KeywordRouter()

        async def routed(query: str) -> list[str]:
            cards = [entry.card for entry in catalog.live.list_adapters()]
            found = await router.route(query, candidates=cards, top_k=1)
            return [catalog.live.get_adapter(selection.adapter).key for selection in found]

        assert await routed("count rows") == ["sql@1"]
        await catalog.deactivate("sql")
        assert await routed("count rows") == []
        newer = record("sql@2")
        newer = replace(newer, card=replace(newer.card, examples=("count rows",)))
        await catalog.keep(newer, activate=True)
        assert await routed("count rows") == ["sql@2"]
        await catalog.activate("sql@1")
        assert await routed("count rows") == ["sql@1"]
        await catalog.rename("sql", "database")
        assert await routed("count rows") == ["database@1"]
        card = (await catalog.get("database@1")).card
        await catalog.update_card("database@1", replace(card, examples=("number of tables",)))
        assert await routed("count rows") == []
        assert await routed("number of tables") == ["database@1"]
        await catalog.delete("database@1")
        assert await routed("number of tables") == []
        assert await routed("read the clause") == ["law@1"]


@both_backends
async def test_a_rename_takes_all_versions_along_and_tells_their_new_names(where: str) -> None:
    ear = Ear()
    async with AdapterCatalog(where, bus=ear.bus) as catalog:
        await catalog.register_all([record("a@1"), record("a@2"), record("b@1")])
        first = await catalog.get("a@1")
        ear.take()
        renamed = await catalog.rename("a", "c")
        assert [one.key for one in renamed] == ["c@1", "c@2"]
        assert [notice.reason for notice in ear.notices] == ["it was a@1", "it was a@2"]
        assert ear.take() == [("renamed", "c@1"), ("renamed", "c@2")]
        assert await demand_agreement(catalog) == ["b@1+", "c@1", "c@2+"]
        assert catalog.id_of("c@1") == first.id
        assert catalog.id_of("a@1") is None
        with pytest.raises(AdapterNotFoundError, match="'a@1' is called 'c@1' now"):
            catalog.live.get_adapter("a@1")
        for taken in ("b", "c"):
            with pytest.raises(AdapterExistsError):
                await catalog.rename("c", taken)
        for wrong in ("", "x@y"):
            with pytest.raises(ConfigError):
                await catalog.rename("b", wrong)
        assert ear.take() == []
        await catalog.keep(record("a@1"))  # the name is free again
        assert await demand_agreement(catalog) == ["a@1+", "b@1+", "c@1", "c@2+"]
        assert catalog.live.get_adapter("a@1").key == "a@1"


@both_backends
async def test_a_deleted_version_says_so_and_stays_in_the_history(where: str) -> None:
    ear = Ear()
    async with AdapterCatalog(where, bus=ear.bus) as catalog:
        await catalog.register_all([record("a@1"), record("a@2")])
        ear.take()
        deleted = await catalog.delete("a")
        assert deleted.key == "a@2"
        assert ear.take() == [("deleted", "a@2")]
        assert deleted.deleted_at is not None
        said = f"'a@2' was deleted on {deleted.deleted_at:%Y-%m-%d} .* register it anew"
        asks: list[Callable[[], Awaitable[object]]] = [
            lambda: catalog.get("a@2"),
            lambda: catalog.activate("a@2"),
            lambda: catalog.deactivate("a@2"),
            lambda: catalog.delete("a@2"),
            lambda: catalog.update_card("a@2", deleted.card),
        ]
        with pytest.raises(AdapterNotFoundError, match=said):
            catalog.live.get_adapter("a@2")
        for ask in asks:
            with pytest.raises(AdapterNotFoundError, match=said):
                await ask()
        assert await demand_agreement(catalog) == ["a@1"]
        assert [one.event for one in await catalog.history("a@2")][-1] == "deleted"
        assert (await catalog.list()).total == 1
        page = await catalog.list(ListQuery(include_deleted=True))
        assert [one.key for one in page.records] == ["a@1", "a@2"]
        assert ear.take() == []


@both_backends
async def test_a_card_is_replaced_and_only_a_change_is_told(where: str) -> None:
    ear = Ear()
    async with AdapterCatalog(where, bus=ear.bus) as catalog:
        kept = await catalog.keep(record("a@1"))
        ear.take()
        card = replace(kept.card, examples=("é", "b"), threshold=0.25)
        assert (await catalog.update_card("a", card)).card == card
        assert catalog.live.get_adapter("a").card == card
        assert ear.take() == [("changed", "a@1")]
        await catalog.update_card("a", card)
        assert ear.take() == []
        with pytest.raises(ConfigError, match="name and version stay"):
            await catalog.update_card("a", AdapterCard("b"))
        assert await demand_agreement(catalog) == ["a@1+"]


@both_backends
async def test_it_is_found_again_when_it_is_opened_anew(where: str, tmp_path: Path) -> None:
    live = AdapterRegistry(max_loaded=7)
    async with AdapterCatalog(where, live=live) as catalog:
        assert catalog.live is live
        await catalog.register_all([record("a@1"), record("a@2"), record("b@1")])
        await catalog.deactivate("b")
        await catalog.delete("a@1")
    ear = Ear()
    async with AdapterCatalog(where, bus=ear.bus) as again:
        assert await demand_agreement(again) == ["a@2+", "b@1"]
        assert ear.take() == [
            ("registered", "a@2"), ("registered", "b@1"), ("activated", "a@2"),
        ]  # fmt: skip
    with pytest.raises(RegistryError, match="not open"):
        await catalog.get("a")
    with pytest.raises(RegistryError, match="not open"):
        await catalog.refresh()


@both_backends
async def test_use_and_feedback_are_kept_by_id(where: str, folder: Path) -> None:
    async with AdapterCatalog(where) as catalog:
        trained = Provenance(trainer="intrinsic train", base_model="org/base")
        kept = await catalog.register(Newcomer(folder, provenance=trained))
        assert kept.trained_here
        version_id = catalog.id_of("sql@1")
        assert version_id == kept.id
        catalog.usage.note_routed(version_id, 0.5)
        catalog.usage.note_generated(version_id, 12)
        await catalog.feedback.rate(version_id, 4)
        await catalog.rename("sql", "database")
    async with AdapterCatalog(where) as catalog:
        usage = (await catalog.usage.usage_of([kept.id]))[kept.id]
        assert (usage.routed, usage.generated, usage.tokens) == (1, 1, 12)
        ratings = await catalog.feedback.ratings_of([kept.id])
        assert [rating.value for rating in ratings[kept.id]] == [4]


@both_backends
async def test_many_tasks_change_it_at_once_and_one_of_them_wins_each_version(where: str) -> None:
    async with AdapterCatalog(where) as catalog:
        outcomes: list[str] = []

        async def add(number: int) -> None:
            try:
                await catalog.keep(record(f"a@{number % 5}"), activate=number % 3 == 0 or None)
                outcomes.append("kept")
            except AdapterExistsError:
                outcomes.append("taken")

        async with anyio.create_task_group() as tasks:
            for number in range(15):
                tasks.start_soon(add, number)
        assert sorted(outcomes) == ["kept"] * 5 + ["taken"] * 10
        keys = await demand_agreement(catalog)
        assert [key.rstrip("+") for key in keys] == [f"a@{number}" for number in range(5)]
        assert sum(key.endswith("+") for key in keys) == 1
