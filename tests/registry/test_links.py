"""Links, pipes and homes: what is no plain file of the adapters folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from intrinsic.errors import ConfigError
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


@pytest.mark.parametrize("name", ["card.toml", "card.json"])
def test_a_card_that_is_a_pipe_is_refused_and_the_rest_registered(
    tmp_path: Path, name: str
) -> None:
    write_adapter(tmp_path / "sound", llama())
    piped = write_adapter(tmp_path / "piped", llama())
    os.mkfifo(piped / name)
    registry = AdapterRegistry.from_folder(tmp_path)
    assert [entry.name for entry in registry.list_adapters()] == ["sound"]
    assert "no regular file" in registry.problems[0].why


def test_the_home_of_nobody_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match="cannot be found"):
        AdapterRegistry.from_folder("~nobody-of-that-name")
    with pytest.raises(ConfigError, match="cannot be found"):
        AdapterRegistry().register_adapter("~nobody-of-that-name")
