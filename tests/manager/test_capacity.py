"""Fifty adapters, three slots, twenty sessions at once: exact, and nothing left behind."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint

from intrinsic.backends import GenerationOptions
from intrinsic.backends.transformers_backend import TransformersBackend
from intrinsic.engine import LoadedAdapter
from intrinsic.lora import LoraCheckpoint
from intrinsic.manager import AdapterManager, ManagerOptions
from intrinsic.mixture import BASE, Mixture
from intrinsic.registry import AdapterRegistry
from tests.bus.backends import both_backends
from tests.tiny import llama, tokenizer, write_adapter

ADAPTERS, SLOTS, SESSIONS, LEASES = 50, 3, 20, 16
SHORT = GenerationOptions(max_new_tokens=6)
NAMES = [f"a{number:02}" for number in range(ADAPTERS)]
RANKS = (2, 4, 4, 12)


@dataclass
class World:
    """Adapters on disk, mixtures of them, and what each answers alone."""

    folder: Path
    answers: dict[Mixture, str]
    bytes_of: Mapping[str, int]

    @property
    def largest(self) -> int:
        return max(self.bytes_of.values())

    @property
    def most_bytes(self) -> int:
        """The device's budget: any mixture fits, and not any three adapters do."""
        return max(
            sum(self.bytes_of[adapter] for adapter in mixture.adapters) for mixture in self.answers
        )

    def registry(self) -> AdapterRegistry:
        return AdapterRegistry.from_folder(self.folder, max_loaded=SLOTS)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("adapters")
    model = llama()
    for number, name in enumerate(NAMES):
        rank = RANKS[number % len(RANKS)]
        write_adapter(folder / name, model, seed=number, r=rank, card={"name": name})
    return anyio.run(answered_alone, folder)


async def answered_alone(folder: Path) -> World:
    """Every mixture's answer from a model that does nothing else meanwhile."""
    registry = AdapterRegistry.from_folder(folder, max_loaded=ADAPTERS)
    manager = AdapterManager(TransformersBackend(llama(), tokenizer()), registry)
    answers: dict[Mixture, str] = {}
    for weights in mixtures():
        async with manager.lease(weights) as lease:
            answers[lease.mixture] = (await lease.generate(prompt_of(lease.mixture), SHORT)).text
    return World(folder, answers, manager.get_stats()["bytes_by_adapter"])


def mixtures(count: int = 60) -> list[Mapping[str, float]]:
    draw = random.Random(7)
    return [
        {
            name: draw.choice((1.0, 0.5, -0.7))
            for name in draw.sample(NAMES, draw.choice((1, 1, 2, 3)))
        }
        for _ in range(count)
    ]


def prompt_of(mixture: Mixture) -> str:
    return "".join(adapter[:3] for adapter in mixture.adapters)


@dataclass
class Crowd:
    """Sessions that lease, generate, stream, prefetch, and are cancelled, by a seed."""

    world: World
    manager: AdapterManager
    backend: TransformersBackend
    answered: int = 0
    cancelled: int = 0
    wrong: list[tuple[Mixture, str]] = field(default_factory=list)

    async def session(self, number: int) -> None:
        draw = random.Random(number)
        for _ in range(LEASES):
            mixture = draw.choice(list(self.world.answers))
            if draw.random() < 0.2:
                await self.manager.prefetch(draw.sample(NAMES, 2))
            if draw.random() < 0.25:
                await self.cut_short(mixture, draw.randrange(12))
            else:
                await self.request(mixture, streaming=draw.random() < 0.3)
                self.answered += 1
            self.check_budgets()

    async def request(self, mixture: Mixture, *, streaming: bool) -> None:
        async with self.manager.lease(mixture) as lease:
            self.check_held(mixture)
            prompt = prompt_of(mixture)
            if streaming:
                text = "".join([piece async for piece in lease.stream(prompt, SHORT)])
            else:
                text = (await lease.generate(prompt, SHORT)).text
            self.check_held(mixture)
        if text != self.world.answers[mixture]:
            self.wrong.append((mixture, text))

    async def cut_short(self, mixture: Mixture, after: int) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: self.request(mixture, streaming=after % 2 == 0))
            for _ in range(after):
                await checkpoint()
            tasks.cancel_scope.cancel()
        self.cancelled += 1

    def check_held(self, mixture: Mixture) -> None:
        loaded = {adapter.id for adapter in self.backend.engine.loaded}
        assert loaded.issuperset(mixture.adapters), (loaded, mixture)

    def check_budgets(self) -> None:
        stats, options = self.manager.get_stats(), self.manager.options
        assert stats["l1_entries"] <= SLOTS
        assert options.max_bytes is None or stats["l1_used_bytes"] <= options.max_bytes
        assert stats["l2_used_bytes"] <= (options.max_host_bytes or 0)


class MostBytes:
    """What the engine's adapters took at most, at any moment."""

    def __init__(self, backend: TransformersBackend, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = 0
        engine = backend.engine
        load = engine.load

        def noted(source: LoraCheckpoint, adapter: str, *, scaling: float = 1.0) -> LoadedAdapter:
            loaded = load(source, adapter, scaling=scaling)
            self.bytes = max(self.bytes, sum(each.bytes_used for each in engine.loaded))
            return loaded

        monkeypatch.setattr(engine, "load", noted)


@pytest.mark.parametrize("host_adapters", [ADAPTERS, 4, 0])
@both_backends
async def test_fifty_adapters_compete_for_three_slots(
    world: World, host_adapters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = TransformersBackend(llama(), tokenizer())
    before = await backend.fingerprint()
    assert world.most_bytes < SLOTS * world.largest
    options = ManagerOptions(
        max_bytes=world.most_bytes,
        max_host_bytes=host_adapters * world.largest,
        wait_timeout_s=120,
    )
    manager = AdapterManager(backend, world.registry(), options=options)
    most = MostBytes(backend, monkeypatch)
    crowd = Crowd(world, manager, backend)
    async with anyio.create_task_group() as tasks:
        for number in range(SESSIONS):
            tasks.start_soon(crowd.session, number)
    assert crowd.wrong == []
    assert crowd.answered + crowd.cancelled == SESSIONS * LEASES
    assert crowd.answered > 200
    assert crowd.cancelled > 40
    if host_adapters:
        assert most.bytes <= world.most_bytes
    stats = manager.get_stats()
    assert stats["leases"] == 0
    assert stats["evictions"] > 50
    assert stats["l2_used_bytes"] == sum(stats["host_bytes_by_adapter"].values())
    if host_adapters == ADAPTERS:
        assert stats["l2_misses"] <= ADAPTERS
        assert stats["prefetches_used"] > 0
    await leave_no_trace(manager, backend, before)


async def leave_no_trace(
    manager: AdapterManager, backend: TransformersBackend, before: str
) -> None:
    for key in manager.registry.loaded_adapters:
        await manager.unload(key)
    assert backend.engine.loaded == ()
    assert backend.engine.bytes_used == 0
    assert manager.get_stats()["l1_used_bytes"] == 0
    assert await backend.fingerprint() == before


def test_the_mixtures_of_the_crowd_do_answer_differently(world: World) -> None:
    assert len(set(world.answers.values())) > len(world.answers) * 0.7
    assert BASE not in world.answers
