"""Links out of a Hugging Face cache's snapshot lead to the blobs of its own repository."""

from __future__ import annotations

from pathlib import Path

from intrinsic.registry import AdapterRegistry
from tests.tiny import llama, write_adapter


def test_a_snapshot_of_a_hub_cache_is_registered(tmp_path: Path) -> None:
    snapshot = write_adapter(tmp_path / "models--a" / "snapshots" / "c0ffee", llama())
    blobs = tmp_path / "models--a" / "blobs"
    blobs.mkdir()
    for number, path in enumerate(sorted(snapshot.iterdir())):
        path.rename(blobs / str(number))
        path.symlink_to(blobs / str(number))
    registry = AdapterRegistry.from_folder(snapshot)
    assert [entry.name for entry in registry.list_adapters()] == ["c0ffee"]


def test_what_is_registered_by_its_own_path_may_be_a_link(tmp_path: Path) -> None:
    write_adapter(tmp_path / "elsewhere", llama())
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere")
    registry = AdapterRegistry()
    registry.register_adapter(tmp_path / "linked")
    assert [entry.name for entry in registry.list_adapters()] == ["linked"]
