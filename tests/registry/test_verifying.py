"""Files are what was registered, or it is told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from intrinsic.errors import AdapterNotFoundError
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.verifying import verify
from tests.bus.backends import both_backends
from tests.registry.cataloguing import adapter, newcomer


@both_backends
async def test_changed_and_missing_files_are_told_and_a_card_may_change(
    where: str, tmp_path: Path
) -> None:
    folders = {name: adapter(tmp_path / name) for name in ("same", "other", "half", "gone")}
    async with AdapterCatalog(where, files=tmp_path / "files") as catalog:
        for name, folder in folders.items():
            await catalog.register(newcomer(folder, f"{name}@1"))
        await catalog.register(newcomer(folders["gone"], "gone@2"), copy=True)
        await catalog.register(newcomer(folders["gone"], "deleted@1"))
        await catalog.delete("deleted@1")
        (folders["same"] / "card.toml").write_text('domain = "new"\n')
        with (folders["other"] / "adapter_config.json").open("a") as file:
            file.write(" ")
        (folders["half"] / "adapter_model.safetensors").unlink()
        shutil.rmtree(folders["gone"])
        told: list[tuple[int, int]] = []
        found = await verify(catalog, progress=lambda *so_far: told.append(so_far))
        assert {one.key: one.state for one in found} == {
            "same@1": "ok", "other@1": "changed", "half@1": "missing", "gone@1": "missing",
            "gone@2": "ok",
        }  # fmt: skip
        assert all(bool(one.why) == (one.state != "ok") for one in found)
        assert sorted(told)[-1] == (5, 5)
        named = await verify(catalog, ["gone", "same@1"])
        assert {one.key for one in named} == {"gone@1", "gone@2", "same@1"}
        for unknown in ("nothing", "deleted@1", "same@2"):
            with pytest.raises(AdapterNotFoundError):
                await verify(catalog, ["same", unknown])
