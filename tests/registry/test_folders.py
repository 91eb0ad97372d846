"""A folder of many: what is found, what is registered, what is refused and why."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from intrinsic.errors import ConfigError
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.folders import (
    FolderSummary,
    Found,
    examine_folder,
    find_adapters,
    register_examined,
)
from intrinsic.registry.registering import Newcomer, card_in_files
from intrinsic.registry.side_by_side import THREADS, side_by_side
from tests.bus.backends import both_backends
from tests.registry.cataloguing import adapter, demand_agreement


def found_in(root: Path) -> tuple[list[str], list[str]]:
    found: Found = find_adapters(root)
    return (
        [str(path.relative_to(root)) for path in found.folders],
        [str(one.path.relative_to(root)) for one in found.refused],
    )


def test_adapters_are_found_below_and_in_the_folder_itself(tmp_path: Path) -> None:
    adapter(tmp_path / "team" / "deep" / "sql")
    adapter(tmp_path / "team" / "math")
    adapter(tmp_path)
    (tmp_path / "notes").mkdir()
    assert found_in(tmp_path) == ([".", "team/deep/sql", "team/math"], [])


def test_what_is_inside_an_adapter_or_hidden_is_passed_over(tmp_path: Path) -> None:
    adapter(tmp_path / "sql" / "checkpoint-500")
    adapter(tmp_path / "sql")
    adapter(tmp_path / ".writing-1.tmp" / "half")
    assert found_in(tmp_path) == (["sql"], [])


def test_links_out_are_refused_and_links_within_are_found_once(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "adapters"
    adapter(outside / "secret")
    adapter(root / "sound")
    (root / "again").symlink_to(root / "sound")
    (root / "many").symlink_to(outside)
    (root / "gone").symlink_to(tmp_path / "nowhere")
    linked = adapter(root / "linked") / "adapter_model.safetensors"
    linked.rename(outside / "weights")
    linked.symlink_to(outside / "weights")
    assert found_in(root) == (["sound"], ["linked", "many"])
    assert "is a link out of" in find_adapters(root).refused[0].why


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere does not exist"):
        find_adapters(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file"):
        find_adapters(tmp_path / "file")


async def registered(
    catalog: AdapterCatalog, root: Path, *, copy: bool = False, activate: bool | None = None
) -> FolderSummary:
    return await register_examined(
        catalog, await examine_folder(root), copy=copy, activate=activate
    )


@both_backends
async def test_the_sound_are_registered_and_the_others_refused_with_the_reason(
    where: str, tmp_path: Path
) -> None:
    root = tmp_path / "adapters"
    adapter(root / "sql", version="1.0.0")
    adapter(root / "twin", name="sql", version="1.0.0", domain="other")
    (adapter(root / "cut") / "adapter_model.safetensors").write_bytes(b"short")
    (adapter(root / "bare") / "adapter_config.json").unlink()
    told: list[tuple[int, int]] = []
    async with AdapterCatalog(where) as catalog:
        examined = await examine_folder(root, progress=lambda *so_far: told.append(so_far))
        summary = await register_examined(catalog, examined)
        assert [(one.key, one.active) for one in summary.registered] == [("sql@1.0.0", True)]
        why = {one.path.name: one.why for one in summary.refused}
        assert set(why) == {"twin", "cut", "bare"}
        assert "the next free version is '1.0.1'" in why["twin"]
        assert "has no adapter_config.json" in why["bare"]
        assert sorted(told) == [(1, 4), (2, 4), (3, 4), (4, 4)]
        again = await registered(catalog, root)
        assert (again.registered, again.known) == ((), ("sql@1.0.0",))
        assert {one.path.name for one in again.refused} == set(why)
        assert await demand_agreement(catalog) == ["sql@1.0.0+"]


@pytest.mark.parametrize("copy", [False, True])
@both_backends
async def test_which_versions_are_active(tmp_path: Path, copy: bool) -> None:
    root = tmp_path / "adapters"
    for version in ("9", "10", "8"):
        adapter(root / version, name="sql", version=version)
    for activate, active in ((None, ["sql@10"]), (True, ["sql@10"]), (False, [])):
        async with AdapterCatalog(tmp_path / f"{copy}{activate}.db") as catalog:
            summary = await registered(catalog, root, copy=copy, activate=activate)
            assert [one.key for one in summary.registered if one.active] == active
            assert [e.key for e in catalog.live.list_adapters()] == active
            assert all(one.copied == copy for one in summary.registered)
    adapter(root / "11", name="sql", version="11")
    async with AdapterCatalog(tmp_path / f"{copy}None.db") as catalog:
        (new,) = (await registered(catalog, root, copy=copy)).registered
        assert (new.key, new.active) == ("sql@11", False)


@both_backends
async def test_copies_do_not_need_the_folder_any_more(tmp_path: Path) -> None:
    (adapter(tmp_path / "a" / "sql") / "card.toml").write_text('domain = "data"\n')
    async with AdapterCatalog(tmp_path / "r.db") as catalog:
        (kept,) = (await registered(catalog, tmp_path / "a", copy=True)).registered
    assert kept.path.parent == tmp_path / "r.db.files"
    assert (kept.path / "card.toml").exists()


@both_backends
async def test_what_is_said_holds_for_all_and_the_files_card_is_kept_beside(
    tmp_path: Path,
) -> None:
    for name in ("sql", "math"):
        adapter(tmp_path / name, domain="of the file")
    said = Newcomer(tmp_path, domain="said", base_model="org/base")
    for one in (await examine_folder(tmp_path, said=said)).records:
        assert (one.card.domain, one.base_model) == ("said", "org/base")
        assert card_in_files(one.inspection) == replace(one.card, domain="of the file")


@both_backends
async def test_several_are_examined_at_once_and_an_error_waits_for_those_under_way() -> None:
    together = threading.Barrier(THREADS)

    def meet(number: int) -> int:
        together.wait(10)  # breaks unless as many are here at once
        return -number

    assert await side_by_side(meet, range(2 * THREADS)) == [-n for n in range(2 * THREADS)]
    began, failed = threading.Event(), threading.Event()
    ended: list[int] = []

    def fail_first(number: int) -> None:
        if number == 0:
            began.wait(10)
            failed.set()
            raise KeyError(number)
        began.set()
        failed.wait(10)
        ended.append(number)

    with pytest.raises(BaseExceptionGroup):
        await side_by_side(fail_first, range(2))
    assert ended == [1]
