"""A version written out: what PEFT reads, with the registry's card; whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from intrinsic.errors import (
    AdapterError,
    AdapterExistsError,
    AdapterNotFoundError,
    CheckpointError,
    ConfigError,
)
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.entry import read_entry
from intrinsic.registry.exporting import export
from intrinsic.registry.inspection import digest_of
from intrinsic.registry.provenance import Provenance
from tests.bus.backends import both_backends
from tests.registry.cataloguing import adapter, newcomer


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@both_backends
async def test_an_exported_version_has_the_same_bytes_and_the_registrys_card(
    tmp_path: Path,
) -> None:
    # The card in the config says a threshold and a group, which the exported one must speak
    # against or repeat.
    folder = adapter(tmp_path / "made", name="in_files", group="g", domain="of the file")
    (folder / "README.md").write_text("hello\n")
    said = newcomer(
        folder, "sql@2.0.0", domain="data", keywords=["select"], provenance=Provenance(seed=3)
    )
    async with AdapterCatalog(tmp_path / "r.db") as catalog:
        kept = await catalog.register(said)
        target = await export(catalog, "sql", tmp_path / "out" / "exported")
        assert target == tmp_path / "out" / "exported"
        assert digest_of(target) == kept.digest
        assert read_entry(target).card == kept.card
        assert Provenance.read(target) == Provenance(seed=3)
        assert names_in(target) == [
            "README.md", "adapter_config.json", "adapter_model.safetensors", "card.toml",
            "provenance.json",
        ]  # fmt: skip
        assert names_in(target.parent) == ["exported"]
        assert not (folder / "card.toml").exists()


@both_backends
async def test_what_is_there_is_replaced_only_by_force_and_only_an_adapter(
    tmp_path: Path,
) -> None:
    async with AdapterCatalog(tmp_path / "r.db") as catalog:
        await catalog.register(newcomer(adapter(tmp_path / "made"), "sql@1"))
        taken = adapter(tmp_path / "taken", r=8)
        before = digest_of(taken)
        with pytest.raises(AdapterExistsError, match="--force"):
            await export(catalog, "sql", taken)
        assert digest_of(taken) == before
        await export(catalog, "sql", taken, force=True)
        assert digest_of(taken) == (await catalog.get("sql")).digest
        (tmp_path / "papers").mkdir()
        with pytest.raises(AdapterExistsError, match="not a folder of one adapter"):
            await export(catalog, "sql", tmp_path / "papers", force=True)
        with pytest.raises(ConfigError, match="is the folder of sql@1 itself"):
            await export(catalog, "sql", tmp_path / "made", force=True)
        with pytest.raises(AdapterNotFoundError):
            await export(catalog, "nothing", tmp_path / "new")
        assert not (tmp_path / "new").exists()


@both_backends
async def test_files_that_changed_or_are_gone_are_not_exported(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "made")
    out = tmp_path / "out"
    async with AdapterCatalog(tmp_path / "r.db") as catalog:
        await catalog.register(newcomer(folder, "sql@1"))
        with (folder / "adapter_config.json").open("a") as file:
            file.write(" ")
        with pytest.raises(CheckpointError, match="not those that were registered"):
            await export(catalog, "sql", out)
        (folder / "adapter_config.json").unlink()
        with pytest.raises(CheckpointError, match="has no adapter_config"):
            await export(catalog, "sql", out)
    assert names_in(tmp_path) == ["made", "r.db"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@both_backends
async def test_a_folder_that_nobody_may_write_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    async with AdapterCatalog(tmp_path / "r.db") as catalog:
        await catalog.register(newcomer(adapter(tmp_path / "made"), "sql@1"))
        with pytest.raises(AdapterError, match="cannot be written"):
            await export(catalog, "sql", tmp_path / "locked" / "out")
