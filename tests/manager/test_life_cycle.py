"""Adapters are switched on and off while requests run, and memory follows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from intrinsic.backends import GenerationOptions, ModelBackend
from intrinsic.backends.transformers_backend import TransformersBackend
from intrinsic.bus import MemoryBus
from intrinsic.errors import AdapterNotFoundError, CheckpointError, IncompatibleAdapterError
from intrinsic.events import InjectionChannel, MemoryEvent, MemoryVector
from intrinsic.manager import AdapterManager, ManagerOptions
from intrinsic.manager.life_cycle import LifeCycle
from intrinsic.plugins import PluginManager
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.registering import Newcomer
from intrinsic.registry.registry import AdapterRegistry
from intrinsic.wiring import WiringOptions, setup_weight_interface
from tests.bus.backends import both_backends
from tests.manager.fakes import FakeBackend, TieredBackend
from tests.tiny import llama, tokenizer, write_adapter

MODEL = llama()


@asynccontextmanager
async def catalog_of(folder: Path, *names: str, **options: Any) -> AsyncIterator[AdapterCatalog]:
    """A catalog of sound adapters for the tiny model, each version 1 and active."""
    live = AdapterRegistry(max_loaded=2)
    async with AdapterCatalog(folder / "adapters.db", live=live, **options) as catalog:
        for seed, name in enumerate(names):
            await catalog.register(Newcomer(adapter(folder / name, seed), name=name))
        yield catalog


def adapter(folder: Path, seed: int = 0, **config: object) -> Path:
    config = {"base_model_name_or_path": "tiny/llama"} | config
    return write_adapter(folder, MODEL, seed=seed, **config)  # type: ignore[arg-type]


def life(catalog: AdapterCatalog, backend: ModelBackend, **options: Any) -> LifeCycle:
    manager = AdapterManager(backend, catalog.live, options=ManagerOptions(**options))
    return LifeCycle(catalog, manager)


@both_backends
async def test_an_activated_version_is_offered_and_brought_near(tmp_path: Path) -> None:
    async with catalog_of(tmp_path, "a") as catalog:
        second = Newcomer(adapter(tmp_path / "second", 9), name="a", version="2")
        assert not (await catalog.register(second)).active
        backend = TieredBackend()
        cycle = life(catalog, backend)
        assert [e.key for e in catalog.live.list_adapters()] == ["a@1"]
        done = await cycle.activate("a@2")
        assert (done.record.key, done.record.active, done.near) == ("a@2", True, "device")
        assert [e.key for e in catalog.live.list_adapters()] == ["a@2"]
        assert backend.loaded == ["a@2"]
        assert not (await catalog.get("a@1")).active
        both = await cycle.activate("a@1", only=False)
        assert both.record.active
        assert [e.key for e in catalog.live.list_adapters()] == ["a@1", "a@2"]


@both_backends
async def test_where_the_budget_is_spent_it_stays_in_host_memory(tmp_path: Path) -> None:
    async with catalog_of(tmp_path, "a", "b", "c") as catalog:
        backend = TieredBackend()
        cycle = life(catalog, backend)
        await catalog.deactivate("c")
        async with cycle.manager.lease({"a": 1.0, "b": 1.0}):
            done = await cycle.activate("c")
            assert done.near == "host"
            assert sorted(backend.loaded) == ["a@1", "b@1"]


@both_backends
async def test_what_cannot_be_preloaded_is_active_and_says_why(tmp_path: Path) -> None:
    async with catalog_of(tmp_path, "a") as catalog:
        await catalog.deactivate("a@1")
        done = await life(catalog, FakeBackend()).activate("a@1")
        assert done.record.active
        assert (done.near, done.why) == ("", "backend 'fake' cannot prefetch adapters")
        broken = await life(catalog, TieredBackend(broken=["a"])).activate("a")
        assert (broken.near, broken.why) == ("", f"{tmp_path / 'a'} is broken")


@both_backends
async def test_requests_that_run_finish_with_a_deactivated_adapter(tmp_path: Path) -> None:
    bus, off = MemoryBus(), anyio.Event()
    bus.on("adapter.deactivated", lambda notice: off.set())
    async with catalog_of(tmp_path, "a", "b", bus=bus) as catalog:
        backend = TieredBackend()
        cycle = life(catalog, backend, wait_timeout_s=0.01)  # a drain lasts longer than that
        async with anyio.create_task_group() as group:
            async with cycle.manager.lease("a") as lease:
                group.start_soon(cycle.deactivate, "a")
                await off.wait()
                assert [e.key for e in catalog.live.list_adapters()] == ["b@1"]
                with pytest.raises(AdapterNotFoundError, match="no active version"):
                    async with cycle.manager.lease("a"):
                        pass
                async with cycle.manager.lease("b"):  # others load meanwhile
                    assert sorted(backend.loaded) == ["a@1", "b@1"]
                assert (await lease.generate("still")).text.startswith("still under (('a@1'")
            await anyio.wait_all_tasks_blocked()
        assert backend.loaded == ["b@1"]


@both_backends
async def test_a_deleted_version_leaves_memory_and_says_when_it_went(tmp_path: Path) -> None:
    async with catalog_of(tmp_path, "a", "b") as catalog:
        backend = TieredBackend()
        cycle = life(catalog, backend)
        await cycle.manager.load("a")
        await cycle.manager.set_active({"a": 1.0})
        await cycle.delete("a@1")
        assert backend.loaded == []
        assert cycle.manager.get_active_adapters() == {}
        with pytest.raises(AdapterNotFoundError, match="was deleted on"):
            await cycle.manager.load("a@1")


@both_backends
async def test_a_long_generation_is_the_same_across_a_deactivation(tmp_path: Path) -> None:
    backend = TransformersBackend(MODEL, tokenizer())
    options = GenerationOptions(max_new_tokens=40)
    async with catalog_of(tmp_path, "a", "b") as catalog:
        cycle = life(catalog, backend)
        before = await backend.fingerprint()
        async with cycle.manager.lease("a") as lease:
            undisturbed = [piece async for piece in lease.stream("hello", options=options)]
        async with anyio.create_task_group() as group, cycle.manager.lease("a") as lease:
            pieces: list[str] = []
            async for piece in lease.stream("hello", options=options):
                if not pieces:
                    group.start_soon(cycle.deactivate, "a@1")
                pieces.append(piece)
        assert "".join(pieces) == "".join(undisturbed)
        assert len("".join(pieces)) > 10
        assert catalog.live.loaded_adapters == ()
        assert await backend.fingerprint() == before


@both_backends
async def test_use_is_noted_and_not_lost_on_a_clean_stop(tmp_path: Path) -> None:
    file = tmp_path / "adapters.db"
    card = {"name": "a", "domain": "medicine", "examples": ["how is asthma treated"]}
    folder = write_adapter(tmp_path / "a", MODEL, card=card)
    async with MemoryBus() as bus, AdapterCatalog(file, bus=bus) as catalog:
        record = await catalog.register(Newcomer(folder))
        manager, _ = setup_weight_interface(
            bus,
            TieredBackend(),
            catalog,
            options=WiringOptions(router="keyword"),
            plugins=PluginManager.with_builtins(),
        )
        memory = MemoryVector("m", "how is asthma treated")
        event = MemoryEvent(channel=InjectionChannel.DYNAMIC_LORA, vectors=(memory,))
        for _ in range(3):
            await bus.publish(event)
            async with manager.lease(event) as lease:
                await lease.generate("asthma")
    async with AdapterCatalog(file) as again:
        (used,) = (await again.usage.usage_of([record.id])).values()
        assert (used.routed, used.generated, used.tokens, used.loads) == (3, 3, 3, 1)
        assert used.mean_confidence is not None
        assert 0.5 < used.mean_confidence <= 1.0


@both_backends
async def test_an_adapter_of_another_model_is_refused_with_those_that_fit(tmp_path: Path) -> None:
    backend = TransformersBackend(MODEL, tokenizer(), name="tiny/llama")
    async with MemoryBus() as bus, catalog_of(tmp_path, "b", "a") as catalog:
        other = adapter(tmp_path / "other", base_model_name_or_path="somebody/else")
        await catalog.register(Newcomer(other, name="other", domain="law"))
        alike = adapter(tmp_path / "alike")
        await catalog.register(Newcomer(alike, name="alike", domain="Law"))
        options = WiringOptions(router="keyword")
        manager, _ = setup_weight_interface(bus, backend, catalog, options=options)
        cycle = LifeCycle(catalog, manager)
        for attempt in (
            manager.load("other"),
            cycle.activate("other"),
            manager.prefetch(["other"]),
        ):
            with pytest.raises(IncompatibleAdapterError) as refused:
                await attempt
            assert "made for 'somebody/else'" in str(refused.value)
            assert str(refused.value).endswith("these fit: alike@1, a@1, b@1")
        assert catalog.live.loaded_adapters == ()
        await manager.load("a")
        forced = WiringOptions(router="keyword", force_adapters=True)
        manager, _ = setup_weight_interface(bus, backend, catalog, options=forced)
        await manager.load("other")


@both_backends
async def test_a_copy_of_the_base_under_another_name_is_the_same_model(tmp_path: Path) -> None:
    MODEL.config.save_pretrained(tmp_path / "base")
    backend = TransformersBackend(MODEL, tokenizer(), name="/elsewhere/renamed")
    async with MemoryBus() as bus, catalog_of(tmp_path) as catalog:
        base = str(tmp_path / "base")
        await catalog.register(Newcomer(adapter(tmp_path / "a"), name="a", base_model=base))
        await catalog.register(Newcomer(adapter(tmp_path / "b"), name="b"))
        options = WiringOptions(router="keyword")
        manager, _ = setup_weight_interface(bus, backend, catalog, options=options)
        await manager.load("a")
        with pytest.raises(IncompatibleAdapterError, match=r"these fit: a@1$"):
            await manager.load("b")


@both_backends
async def test_files_that_changed_underneath_are_not_loaded(tmp_path: Path) -> None:
    backend = TransformersBackend(MODEL, tokenizer(), name="tiny/llama")
    async with MemoryBus() as bus, catalog_of(tmp_path, "a") as catalog:
        options = WiringOptions(router="keyword")
        manager, _ = setup_weight_interface(bus, backend, catalog, options=options)
        await manager.load("a")
        await manager.unload("a")
        await manager.load("a")
        await manager.unload("a")
        adapter(tmp_path / "a", seed=5)
        with pytest.raises(CheckpointError, match="have changed since it was registered"):
            await manager.load("a")
        adapter(tmp_path / "a", seed=0)
        await manager.load("a")
        (tmp_path / "a" / "adapter_model.safetensors").unlink()
        await manager.unload("a")
        with pytest.raises(CheckpointError, match=r"has no adapter_model\.safetensors"):
            await manager.load("a")


@both_backends
@pytest.mark.parametrize("how", ["deactivated", "deleted"])
async def test_what_is_switched_off_leaves_host_memory_too(tmp_path: Path, how: str) -> None:
    async with catalog_of(tmp_path, "a", "b", "c") as catalog:
        backend = TieredBackend()
        cycle = life(catalog, backend, max_loaded=1)
        await cycle.manager.prefetch(["a", "b", "c"])  # one onto the device, two into host memory
        assert sorted(Path(path).name for path in backend.host) == ["a", "b", "c"]
        for name in "ab":
            leave = cycle.deactivate if how == "deactivated" else cycle.delete
            await leave(f"{name}@1")
        assert backend.loaded == []
        assert [Path(path).name for path in backend.host] == ["c"]
        assert cycle.manager.get_near_adapters() == {"c@1"}


@both_backends
async def test_what_is_activated_again_meanwhile_stays_in_host_memory(tmp_path: Path) -> None:
    bus, off = MemoryBus(), anyio.Event()
    bus.on("adapter.deactivated", lambda notice: off.set())
    async with catalog_of(tmp_path, "a", bus=bus) as catalog:
        backend = TieredBackend()
        cycle = life(catalog, backend)
        await cycle.manager.prefetch(["a"])
        async with anyio.create_task_group() as group, cycle.manager.lease("a"):
            group.start_soon(cycle.deactivate, "a")
            await off.wait()
            await anyio.wait_all_tasks_blocked()
            await cycle.activate("a@1", preload=False)
        assert len(backend.host) == 1
        assert cycle.manager.get_stats()["host_bytes_by_adapter"] == {"a@1": 100}


@both_backends
async def test_a_renamed_adapter_leaves_memory_under_its_old_name(tmp_path: Path) -> None:
    async with catalog_of(tmp_path, "a", "b") as catalog:
        cycle = life(catalog, TieredBackend())
        await cycle.activate("a@1")
        await cycle.activate("b@1")
        assert [one.key for one in await cycle.rename("a", "c")] == ["c@1"]
        assert cycle.manager.get_near_adapters() == {"b@1"}
        assert catalog.live.loaded_adapters == ("b@1",)
        await cycle.activate("c@1")
        assert cycle.manager.get_near_adapters() == {"b@1", "c@1"}


@both_backends
async def test_a_list_says_what_is_on_the_device(tmp_path: Path) -> None:
    async with catalog_of(tmp_path, "a", "b") as catalog:
        cycle = life(catalog, TieredBackend())
        assert (await catalog.list()).loaded == frozenset()
        await cycle.activate("b@1")
        assert (await catalog.list()).loaded == {"b@1"}


@both_backends
async def test_what_another_process_switches_off_leaves_memory(tmp_path: Path) -> None:
    async with (
        catalog_of(tmp_path, "a", "b") as catalog,
        AdapterCatalog(tmp_path / "adapters.db") as other,
    ):
        cycle = life(catalog, TieredBackend())
        await cycle.activate("a@1")
        await cycle.activate("b@1")
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:

                async def follow() -> None:
                    await cycle.follow(every_s=0.01)

                async with cycle.manager.lease({"a@1": 1.0}):
                    tasks.start_soon(follow)
                    await other.deactivate("a@1")
                    while catalog.live.is_active("a@1"):
                        await checkpoint()
                    assert "a@1" in cycle.manager.get_near_adapters()  # its request runs
                while "a@1" in cycle.manager.get_near_adapters():
                    await checkpoint()
                tasks.cancel_scope.cancel()
        assert cycle.manager.get_near_adapters() == {"b@1"}
