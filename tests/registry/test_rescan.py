"""A folder looked at again: new adapters, changed cards, changed weights, missing files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from intrinsic.errors import ConfigError
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.rescan import Rescanned, rescan
from tests.bus.backends import both_backends
from tests.registry.cataloguing import Ear, adapter, demand_agreement, newcomer


def said(found: Rescanned) -> dict[str, list[str]]:
    """What was found, without what is empty."""
    lists = {
        "registered": [one.key for one in found.registered],
        "cards": list(found.cards),
        "changed": [one.key for one in found.changed],
        "missing": [one.key for one in found.missing],
        "refused": [one.path.name for one in found.refused],
    }
    return {key: value for key, value in lists.items() if value}


@both_backends
async def test_new_adapters_are_registered_once_and_broken_ones_refused(
    where: str, tmp_path: Path
) -> None:
    root = tmp_path / "adapters"
    adapter(root / "sql")
    (adapter(root / "broken") / "adapter_config.json").write_text("{")
    ear = Ear()
    async with AdapterCatalog(where, bus=ear.bus) as catalog:
        found = await rescan(catalog, root)
        assert said(found) == {"registered": ["sql@1"], "refused": ["broken"]}
        assert ear.take() == [("registered", "sql@1"), ("activated", "sql@1")]
        adapter(root / "deep" / "math", version="2.0.0")
        shutil.rmtree(root / "broken")
        assert said(await rescan(catalog, root)) == {"registered": ["math@2.0.0"]}
        assert said(await rescan(catalog, root)) == {}
        assert said(await rescan(catalog)) == {}
        assert await demand_agreement(catalog) == ["math@2.0.0+", "sql@1+"]
        with pytest.raises(ConfigError, match="does not exist"):
            await rescan(catalog, tmp_path / "nowhere")


@both_backends
async def test_a_changed_card_is_taken_over_and_what_was_said_at_registering_stays(
    where: str, tmp_path: Path
) -> None:
    folder = adapter(tmp_path / "adapters" / "sql")
    card = folder / "card.toml"
    card.write_text('domain = "file"\ndescription = "old"\n')
    ear = Ear()
    async with AdapterCatalog(where, bus=ear.bus) as catalog:
        await catalog.register(newcomer(folder, "query@3", domain="said"))
        assert said(await rescan(catalog, folder.parent)) == {}
        ear.take()
        card.write_text('domain = "file"\ndescription = "new"\nkeywords = ["select"]\n')
        assert said(await rescan(catalog, folder.parent)) == {"cards": ["query@3"]}
        assert ear.take() == [("changed", "query@3")]
        kept = (await catalog.get("query")).card
        assert (kept.domain, kept.description, kept.keywords) == ("said", "new", ("select",))
        assert catalog.live.get_adapter("query").card == kept
        events = [one.event for one in await catalog.history("query@3")]
        assert events == ["registered", "activated", "card"]
        assert said(await rescan(catalog)) == {}
        card.write_text('domain = "file"\ndescription = "old"\n')  # back again is a change, too
        assert said(await rescan(catalog)) == {"cards": ["query@3"]}
        assert (await catalog.get("query")).card.description == "old"
        card.write_text("domain = ")
        assert said(await rescan(catalog, folder.parent)) == {"refused": ["sql"]}


@both_backends
async def test_another_version_in_the_same_folder_is_a_new_one(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapters" / "sql", version="1.0.0")
    async with AdapterCatalog(tmp_path / "r.db") as catalog:
        await rescan(catalog, folder.parent)
        adapter(folder, version="1.1.0")  # in place, as a training does
        found = await rescan(catalog, folder.parent)
        assert said(found) == {"registered": ["sql@1.1.0"], "changed": ["sql@1.0.0"]}
        assert await demand_agreement(catalog) == ["sql@1.0.0+", "sql@1.1.0"]


@both_backends
async def test_changed_weights_and_missing_files_are_told_and_nothing_is_written(
    tmp_path: Path,
) -> None:
    root = tmp_path / "adapters"
    for name in ("same", "other", "gone"):
        adapter(root / name)
    async with AdapterCatalog(tmp_path / "r.db") as catalog:
        await rescan(catalog, root)
        before = [await catalog.get(name) for name in ("same", "other", "gone")]
        with (root / "other" / "adapter_config.json").open("a") as file:
            file.write(" ")
        shutil.rmtree(root / "gone")
        found = await rescan(catalog, root)
        assert said(found) == {"changed": ["other@1"], "missing": ["gone@1"]}
        assert [await catalog.get(name) for name in ("same", "other", "gone")] == before
        quick = await rescan(catalog, root, digests=False)
        assert said(quick) == {"missing": ["gone@1"]}


@both_backends
async def test_what_was_deleted_renamed_or_copied_is_not_registered_again(tmp_path: Path) -> None:
    root = tmp_path / "adapters"
    for name in ("deleted", "before", "copied", "both"):
        adapter(root / name)
    async with AdapterCatalog(tmp_path / "r.db", files=root / "files") as catalog:
        await catalog.register(newcomer(root / "deleted", "deleted@1"))
        await catalog.register(newcomer(root / "before", "before@1"))
        await catalog.register(newcomer(root / "copied", "copied@1"), copy=True)
        await catalog.register(newcomer(root / "both", "other@5"), copy=True)
        await catalog.delete("deleted@1")
        await catalog.rename("before", "after")
        await catalog.rename("copied", "copy")
        assert said(await rescan(catalog, root)) == {}
        assert await demand_agreement(catalog) == ["after@1+", "copy@1+", "other@5+"]
