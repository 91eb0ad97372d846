"""Versions that are deleted, renamed or switched off while something still means them."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from intrinsic.backends import AdapterInfo
from intrinsic.backends.transformers_backend import TransformersBackend
from intrinsic.bus import MemoryBus
from intrinsic.errors import AdapterNotFoundError
from intrinsic.events import InjectionChannel, MemoryEvent, MemoryVector
from intrinsic.manager import AdapterManager
from intrinsic.plugins import PluginManager
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.registering import Newcomer
from intrinsic.selection import Selection
from intrinsic.wiring import WiringOptions, setup_weight_interface
from intrinsic.wiring.usage_notes import UsageNotes
from tests.bus.backends import both_backends
from tests.manager.fakes import TieredBackend
from tests.manager.test_life_cycle import MODEL, adapter, catalog_of, life
from tests.tiny import tokenizer


class SlowBackend(TieredBackend):
    """Says that loading began, and waits to be told to go on."""

    slow: tuple[anyio.Event, anyio.Event]

    async def load_lora_adapter(
        self, adapter_path: str, adapter_name: str, scaling: float = 1.0
    ) -> AdapterInfo:
        began, go = self.slow
        began.set()
        await go.wait()
        return await super().load_lora_adapter(adapter_path, adapter_name, scaling)


def noted(catalog: AdapterCatalog, backend: TieredBackend) -> AdapterManager:
    """A manager whose use is noted in the catalog."""
    plugins = PluginManager()
    plugins.register(UsageNotes(catalog))
    return AdapterManager(backend, catalog.live, plugins=plugins)


@both_backends
async def test_use_that_ends_after_a_rename_or_a_deletion_is_counted(tmp_path: Path) -> None:
    async with catalog_of(tmp_path, "a", "b") as catalog:
        manager = noted(catalog, TieredBackend())
        ids = [(await catalog.get(name)).id for name in "ab"]
        receipt = await manager.apply([Selection("a", 0.9), Selection("b", 0.8)])
        async with manager.lease(receipt) as lease:
            await catalog.rename("a", "c")
            await catalog.delete("b@1")
            await lease.generate("x")
        used = await catalog.usage.usage_of(ids)
        assert [used[one].generated for one in ids] == [1, 1]


@both_backends
async def test_use_is_counted_for_what_was_in_force_however_asked_for(tmp_path: Path) -> None:
    async with catalog_of(tmp_path, "a", "b") as catalog:
        backend = TieredBackend()
        manager = noted(catalog, backend)
        ids = [(await catalog.get(name)).id for name in "ab"]
        receipt = await manager.apply([Selection("a", 0.9), Selection("b", 0.8)])
        await manager.unload("b")
        backend.broken = {"b"}
        async with manager.lease(receipt) as lease:  # without b, which cannot be had
            await lease.generate("x")
        async with manager.lease("a") as lease:
            await lease.generate("x")
        await manager.set_active({"a": 0.5})
        async with manager.lease() as lease:
            await lease.generate("x")
        used = await catalog.usage.usage_of(ids)
        assert [used[one].generated for one in ids] == [3, 0]


@both_backends
async def test_what_is_gone_leaves_the_active_mixture(tmp_path: Path) -> None:
    async with catalog_of(tmp_path, "a", "b") as catalog:
        manager = life(catalog, TieredBackend()).manager
        await manager.set_active({"a": 1.0, "b": 0.5})
        async with AdapterCatalog(tmp_path / "adapters.db") as other:
            await other.delete("a@1")
        await catalog.refresh()
        async with manager.lease() as lease:
            assert lease.adapters == ("b@1",)
        assert manager.get_active_adapters() == {"b@1": 0.5}


@both_backends
async def test_what_was_evicted_leaves_the_active_mixture_as_well(tmp_path: Path) -> None:
    async with catalog_of(tmp_path, "a", "b", "c") as catalog:
        cycle = life(catalog, TieredBackend(), max_loaded=2)
        await cycle.manager.set_active({"a": 1.0, "b": 1.0})
        await cycle.manager.unload("b")
        await cycle.manager.set_active({"a": 1.0})
        await cycle.manager.load("b")
        await cycle.manager.load("c")
        assert "a@1" not in catalog.live.loaded_adapters
        await cycle.deactivate("a")
        async with cycle.manager.lease() as lease:
            assert lease.adapters == ()
        await cycle.delete("a@1")
        with pytest.raises(AdapterNotFoundError, match="was deleted on"):
            await cycle.manager.load("a@1")


@both_backends
@pytest.mark.parametrize("how", ["fused", "fused meanwhile"])
async def test_a_merged_adapter_leaves_when_its_requests_have_ended(
    tmp_path: Path, how: str
) -> None:
    async with catalog_of(tmp_path, "a", "b") as catalog:
        backend = TieredBackend()
        cycle = life(catalog, backend, wait_timeout_s=0.01)
        manager = cycle.manager
        ended = anyio.Event()

        async def deactivate() -> None:
            await cycle.deactivate("a")
            ended.set()

        async with anyio.create_task_group() as group:
            if how == "fused":
                await manager.fuse("a")
            async with manager.lease("a@1"):
                group.start_soon(deactivate)
                with anyio.move_on_after(0.05):  # longer than `wait_timeout_s`
                    await ended.wait()
                assert not ended.is_set()
                assert backend.loaded == ["a@1"]
            if how == "fused meanwhile":
                await manager.fuse("a@1")
            with anyio.fail_after(5):
                await ended.wait()
        if how == "fused":  # else it may have left before it was fused, by hand
            assert backend.loaded == []
            assert backend.merged is None


@both_backends
async def test_what_another_process_registered_can_be_activated_at_once(tmp_path: Path) -> None:
    async with catalog_of(tmp_path, "a") as catalog:
        cycle = life(catalog, TieredBackend())
        async with AdapterCatalog(tmp_path / "adapters.db") as other:
            folder = adapter(tmp_path / "second", 9)
            await other.register(Newcomer(folder, name="a", version="2"))
        done = await cycle.activate("a@2")
        assert (done.record.active, done.near) == (True, "device")


@both_backends
@pytest.mark.parametrize("when", ["now", "before"])
async def test_a_deleted_version_is_not_used_by_its_path_either(tmp_path: Path, when: str) -> None:
    async with catalog_of(tmp_path, "a", "b") as catalog:
        if when == "before":
            await catalog.delete("a@1")
    async with MemoryBus() as bus, AdapterCatalog(tmp_path / "adapters.db", bus=bus) as catalog:
        if when == "now":
            await catalog.delete("a@1")
        manager, _ = setup_weight_interface(
            bus,
            TransformersBackend(MODEL, tokenizer(), name="tiny/llama"),
            catalog,
            options=WiringOptions(router="keyword"),
            plugins=PluginManager.with_builtins(),
        )
        memory = MemoryVector("m", "hello", lora_adapter_path=str(tmp_path / "a"))
        event = MemoryEvent(channel=InjectionChannel.DYNAMIC_LORA, vectors=(memory,))
        await bus.publish(event)
        async with manager.lease(event) as lease:
            assert lease.adapters == ()
        receipt = manager.receipt(event.id)
        assert receipt is not None
        assert "was deleted on" in receipt.skipped[0].why


@both_backends
async def test_what_was_on_its_way_onto_the_device_leaves_it_too(tmp_path: Path) -> None:
    async with catalog_of(tmp_path, "a") as catalog:
        backend = SlowBackend()
        cycle = life(catalog, backend, wait_timeout_s=0.01)
        backend.slow = began, go = anyio.Event(), anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(cycle.manager.load, "a")
            await began.wait()
            group.start_soon(cycle.deactivate, "a")
            with anyio.move_on_after(0.05):  # longer than `wait_timeout_s`
                await anyio.sleep_forever()
            go.set()
        assert backend.loaded == []


@both_backends
async def test_what_is_activated_again_while_it_drains_stays(tmp_path: Path) -> None:
    bus, off = MemoryBus(), anyio.Event()
    bus.on("adapter.deactivated", lambda notice: off.set())
    async with catalog_of(tmp_path, "a", bus=bus) as catalog:
        backend = TieredBackend()
        cycle = life(catalog, backend)
        async with anyio.create_task_group() as group, cycle.manager.lease("a"):
            group.start_soon(cycle.deactivate, "a")
            await off.wait()
            await anyio.wait_all_tasks_blocked()
            assert (await cycle.activate("a@1")).near == "device"
        assert backend.loaded == ["a@1"]
