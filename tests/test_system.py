"""The whole system, opened as settings describe it."""

from __future__ import annotations

from pathlib import Path

import pytest

from intrinsic.config import load_settings
from intrinsic.errors import BusClosedError, ConfigError
from intrinsic.events import MemoryEvent
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.registering import Newcomer
from intrinsic.system import cards_of, open_system
from tests.tiny import llama, tokenizer, write_adapter


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    llama().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def adapters(tmp_path: Path) -> Path:
    folder = tmp_path / "adapters"
    for name in ("law", "food"):
        write_adapter(folder / name, llama())
    return folder


async def test_a_folder_of_adapters(model: Path, adapters: Path, tmp_path: Path) -> None:
    (adapters / "broken").mkdir()
    (adapters / "broken" / "adapter_config.json").write_text("{")
    told: list[str] = []
    steps: list[None] = []
    settings = load_settings(
        {"model": str(model), "adapters": adapters, "routing.router": "keyword"}, cwd=tmp_path
    )
    opening = open_system(settings, tell=told.append, loaded=lambda: steps.append(None))
    async with opening as system:
        assert {entry.name for entry in system.registry.list_adapters()} == {"law", "food"}
        assert system.catalog is None
        assert not (await system.bus.publish(MemoryEvent.from_text("law"))).errors
    assert len(told) == 1
    assert "broken is left out" in told[0]
    assert len(steps) == 2
    with pytest.raises(BusClosedError):
        await system.bus.publish(MemoryEvent.from_text("law"))


async def test_a_registry(model: Path, adapters: Path, tmp_path: Path) -> None:
    async with AdapterCatalog(tmp_path / "team.db") as catalog:
        await catalog.register(Newcomer(path=adapters / "law"))
    settings = load_settings(
        {
            "model": str(model),
            "registry": str(tmp_path / "team.db"),
            "routing.router": "keyword",
        },
        cwd=tmp_path,
    )
    assert [card.name for card in await cards_of(settings.project)] == ["law"]
    async with open_system(settings) as system:
        assert system.catalog is not None
        assert system.registry is system.catalog.live


async def test_a_registry_that_is_not_there_is_refused_before_anything_is_loaded(
    tmp_path: Path,
) -> None:
    settings = load_settings({"registry": str(tmp_path / "none.db")}, cwd=tmp_path)
    steps: list[None] = []
    with pytest.raises(ConfigError, match="there is no registry"):
        async with open_system(settings, loaded=lambda: steps.append(None)):
            pass
    assert steps == []
