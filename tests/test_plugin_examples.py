"""The plugins that lie in `plugins/` do what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from intrinsic import InjectionChannel, MemoryBus, MemoryEvent, MemoryVector, Mixture
from intrinsic.plugins import PluginManager
from intrinsic.receipt import Receipt
from intrinsic.wiring import WiringOptions, setup_weight_interface
from tests.bus.backends import both_backends
from tests.manager.fakes import FakeBackend, registry_of

FOLDER = Path(__file__).parents[1] / "plugins"


def plugins() -> PluginManager:
    manager = PluginManager.with_builtins()
    manager.load_folder(FOLDER)
    assert manager.problems == []
    return manager


def test_every_file_in_the_folder_is_loaded_with_a_hook() -> None:
    infos = {info.source: info for info in plugins().list_plugins()}
    for file in FOLDER.glob("*.py"):
        assert infos[str(file)].hooks


@both_backends
async def test_context_stuffing_gives_the_most_relevant_memories_that_fit(tmp_path: Path) -> None:
    async with MemoryBus(plugins=plugins()) as bus:
        setup_weight_interface(
            bus, FakeBackend(), registry_of(tmp_path, "a"), options=WiringOptions(router="keyword")
        )
        vectors = (
            MemoryVector("low", "x" * 900, relevance_score=0.1),
            MemoryVector("high", "the patient is 40", relevance_score=0.9),
            MemoryVector("middle", "y" * 200, relevance_score=0.5),
        )
        report = await bus.publish(MemoryEvent(InjectionChannel.CONTEXT_STUFFING, vectors))
        assert report.value == "the patient is 40\n" + "y" * 200


@pytest.mark.parametrize(
    ("query", "mixture"),
    [
        ("#a #b who?", {"a@1": 0.5, "b@1": 0.5}),
        ("#B who?", {"b@1": 1.0}),
        ("#unknown who?", {}),
        ("who?", {}),
    ],
)
@both_backends
async def test_hashtags_choose_adapters(
    tmp_path: Path, query: str, mixture: dict[str, float]
) -> None:
    async with MemoryBus(plugins=plugins()) as bus:
        setup_weight_interface(
            bus, FakeBackend(), registry_of(tmp_path, "ab"), options=WiringOptions(router="keyword")
        )
        report = await bus.publish(MemoryEvent.from_text(query))
        assert isinstance(report.value, Receipt)
        assert report.value.mixture == Mixture.of(mixture)
