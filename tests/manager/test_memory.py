"""Memory: room by bytes, prefetching, statistics by tier, early warnings."""

from __future__ import annotations

import logging
from pathlib import Path

import anyio
import pytest

from intrinsic.backends import AdapterInfo
from intrinsic.errors import (
    AdapterNotFoundError,
    CapabilityError,
    CapacityError,
    CheckpointError,
    ConfigError,
)
from intrinsic.hookspecs import hookimpl
from intrinsic.manager import AdapterManager, ManagerOptions
from intrinsic.plugins import PluginManager
from tests.bus.backends import both_backends
from tests.manager.fakes import FakeBackend, TieredBackend, registry_of

BUDGET = ManagerOptions(max_loaded=10, max_bytes=250)


@both_backends
async def test_with_host_memory_the_device_never_holds_more_than_its_bytes(
    tmp_path: Path,
) -> None:
    backend = TieredBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "abcd"), options=BUDGET)
    for name in "abcd":
        await manager.load(name)
    assert backend.most_bytes == 200
    assert backend.calls[-3:] == [("prefetch", "d"), ("unload", "b@1"), ("load", "d@1")]
    assert manager.registry.loaded_adapters == ("c@1", "d@1")
    assert manager.get_stats()["evictions"] == 2


@both_backends
async def test_a_victim_stays_until_the_newcomer_was_read_and_checked(tmp_path: Path) -> None:
    backend = TieredBackend(broken="c")
    manager = AdapterManager(backend, registry_of(tmp_path, "abc"), options=BUDGET)
    await manager.load("a")
    await manager.load("b")
    with pytest.raises(CheckpointError):
        await manager.load("c")
    assert backend.loaded == ["a@1", "b@1"]
    assert backend.calls[-1] == ("prefetch", "c")


@both_backends
async def test_a_victim_comes_back_where_the_newcomer_does_not_fit_the_model(
    tmp_path: Path,
) -> None:
    heard: list[str] = []

    class Listener:
        @hookimpl
        def on_adapter_evicted(self, adapter: str) -> None:
            heard.append(adapter)

    backend = TieredBackend()
    backend.misfits = {"c"}
    plugins = PluginManager()
    plugins.register(Listener())
    manager = AdapterManager(backend, registry_of(tmp_path, "abc"), options=BUDGET, plugins=plugins)
    await manager.load("a")
    await manager.load("b")
    with pytest.raises(CheckpointError, match="does not fit"):
        await manager.load("c")
    assert sorted(backend.loaded) == ["a@1", "b@1"]
    assert manager.get_stats()["bytes_by_adapter"] == {"a@1": 100, "b@1": 100}
    async with manager.lease({"a": 1, "b": 1}) as lease:
        await lease.generate("x")
    assert heard == []


@both_backends
async def test_a_victim_that_cannot_come_back_is_evicted_and_said_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backend = TieredBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "abc"), options=BUDGET)
    await manager.load("a")
    await manager.load("b")
    backend.misfits = {"a", "c"}
    with pytest.raises(CheckpointError, match="c does not fit"):
        await manager.load("c")
    assert "a@1 made room in vain" in caplog.text
    assert backend.loaded == ["b@1"]
    assert manager.registry.loaded_adapters == ("b@1",)
    assert manager.get_stats()["evictions"] == 1


@pytest.mark.parametrize("tiered", [True, False])
def test_a_request_waits_for_bytes_that_others_hold(tmp_path: Path, *, tiered: bool) -> None:
    async def main() -> None:
        backend = TieredBackend() if tiered else FakeBackend()
        options = ManagerOptions(max_loaded=10, max_bytes=150)
        manager = AdapterManager(backend, registry_of(tmp_path, "ab"), options=options)
        got = anyio.Event()

        async def second() -> None:
            async with manager.lease("b") as lease:
                await lease.generate("x")
                got.set()

        async with anyio.create_task_group() as tasks:
            async with manager.lease("a") as lease:
                tasks.start_soon(second)
                await anyio.wait_all_tasks_blocked()
                assert not got.is_set()
                assert backend.loaded == ["a@1"]
                await lease.generate("x")
            await got.wait()
        assert backend.loaded == ["b@1"]

    for backend_name in ("asyncio", "trio"):
        anyio.run(main, backend=backend_name)


@both_backends
async def test_the_wait_for_bytes_is_bounded(tmp_path: Path) -> None:
    options = ManagerOptions(max_loaded=10, max_bytes=150, wait_timeout_s=0.05)
    for backend in (TieredBackend(), FakeBackend()):
        manager = AdapterManager(backend, registry_of(tmp_path, "ab"), options=options)
        async with manager.lease("a"):
            with pytest.raises(CapacityError, match="a@1 still in use"):
                await manager.load("b")
            assert backend.loaded == ["a@1"]
            async with manager.lease("a"):
                pass
        await manager.load("b")
        assert backend.loaded == ["b@1"]


@both_backends
async def test_what_can_never_fit_is_refused_at_once_and_evicts_nothing(tmp_path: Path) -> None:
    backend = TieredBackend()
    backend.sizes = {"c": 251}
    manager = AdapterManager(backend, registry_of(tmp_path, "abc"), options=BUDGET)
    await manager.load("a")
    with pytest.raises(CapacityError, match=r"251 bytes, 1 more .* max_bytes=250"):
        await manager.load("c")
    await manager.load("b", pin=True)
    backend.sizes = {"c": 151}
    with pytest.raises(CapacityError, match="1 more than there is room for"):
        await manager.load("c")
    assert backend.loaded == ["a@1", "b@1"]


@both_backends
async def test_small_adapters_go_together_for_a_large_one(tmp_path: Path) -> None:
    backend = TieredBackend()
    backend.sizes = {"d": 240}
    manager = AdapterManager(backend, registry_of(tmp_path, "abcd"), options=BUDGET)
    await manager.load("a")
    await manager.load("b")
    await manager.load("d")
    assert backend.loaded == ["d@1"]
    assert backend.most_bytes == 240


@both_backends
async def test_prefetching_fills_host_memory_and_free_slots_and_evicts_nothing(
    tmp_path: Path,
) -> None:
    backend = TieredBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "abcd", max_loaded=2))
    await manager.load("a")
    await manager.prefetch(["a", "b", "c"])
    assert backend.loaded == ["a@1", "b@1"]
    assert sorted(Path(path).name for path in backend.host) == ["b", "c"]
    stats = manager.get_stats()
    assert (stats["prefetches"], stats["prefetches_used"]) == (2, 0)
    await manager.prefetch(["b", "c"])
    async with manager.lease({"b": 1, "c": 1}):
        assert sorted(backend.loaded) == ["b@1", "c@1"]
    async with manager.lease({"b": 1, "c": 1}):
        pass
    stats = manager.get_stats()
    assert (stats["prefetches"], stats["prefetches_used"]) == (2, 2)
    assert stats["evictions"] == 1


@both_backends
async def test_what_was_prefetched_goes_before_what_was_used(tmp_path: Path) -> None:
    backend = TieredBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "abc", max_loaded=2))
    await manager.load("a")
    await manager.prefetch(["b"])
    await manager.load("c")
    assert backend.loaded == ["a@1", "c@1"]


@both_backends
async def test_prefetching_keeps_the_bytes_of_the_device(tmp_path: Path) -> None:
    backend = TieredBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "abc"), options=BUDGET)
    await manager.prefetch(["a", "b", "c"])
    assert backend.loaded == ["a@1", "b@1"]
    assert backend.most_bytes == 200
    assert len(backend.host) == 3


@both_backends
async def test_prefetching_waits_for_no_lease_and_no_turn(tmp_path: Path) -> None:
    backend = TieredBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "abc", max_loaded=1))

    async def waiting() -> None:
        async with manager.lease("b"):
            pass

    async with anyio.create_task_group() as tasks, manager.lease("a"):
        tasks.start_soon(waiting)
        await anyio.wait_all_tasks_blocked()
        await manager.prefetch(["c"])
        assert backend.loaded == ["a@1"]
        assert [Path(path).name for path in backend.host] == ["c"]


@both_backends
async def test_unknown_names_are_refused_first_and_faulty_files_last(tmp_path: Path) -> None:
    backend = TieredBackend(broken="ab")
    manager = AdapterManager(backend, registry_of(tmp_path, "abc", max_loaded=1))
    with pytest.raises(AdapterNotFoundError):
        await manager.prefetch(["c", "ghost"])
    assert backend.calls == []
    with pytest.raises(CheckpointError, match="a is broken") as caught:
        await manager.prefetch(["a", "b", "c"])
    (note,) = caught.value.__notes__
    assert "b is broken" in note
    assert backend.loaded == ["c@1"]
    with pytest.raises(CapabilityError, match="cannot prefetch"):
        await AdapterManager(FakeBackend(), manager.registry).prefetch(["a"])


@both_backends
async def test_without_host_memory_only_free_slots_are_filled(tmp_path: Path) -> None:
    backend = TieredBackend()
    options = ManagerOptions(max_loaded=1, max_host_bytes=0)
    manager = AdapterManager(backend, registry_of(tmp_path, "ab"), options=options)
    await manager.prefetch(["a", "b"])
    assert backend.calls == [("load", "a@1")]
    assert manager.get_stats()["prefetches"] == 1


@both_backends
async def test_statistics_tell_bytes_per_tier_and_adapter(tmp_path: Path) -> None:
    backend = TieredBackend()
    options = ManagerOptions(max_loaded=2, max_host_bytes=400)
    manager = AdapterManager(backend, registry_of(tmp_path, "abc"), options=options)
    assert backend.max_host_bytes == 400
    await manager.load("a")
    await manager.prefetch(["b", "c"])
    stats = manager.get_stats()
    assert stats["l1_entries"] == 2
    assert stats["bytes_by_adapter"] == {"a@1": 100, "b@1": 100}
    assert stats["host_bytes_by_adapter"] == {"b@1": 100, "c@1": 100}
    assert (stats["l2_entries"], stats["l2_used_bytes"]) == (2, 200)
    assert stats["l2_utilization"] == 0.5
    assert (stats["l2_hits"], stats["l2_misses"], stats["l2_evictions"]) == (1, 2, 3)
    assert stats["l3_entries"] == 3
    assert stats["load_ms"] == 2 * 0.5


@both_backends
async def test_a_nearly_full_tier_is_warned_of_once_per_crossing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "intrinsic.manager")
    backend = TieredBackend()
    options = ManagerOptions(max_loaded=10, max_bytes=450, max_host_bytes=500)
    manager = AdapterManager(backend, registry_of(tmp_path, "abcde"), options=options)
    for name in "abc":
        await manager.load(name)
    assert caplog.messages == []
    await manager.load("d")
    await manager.load("e")
    assert caplog.messages == [
        "adapters take 400 of 450 bytes on the device",
        "adapters take 400 of 500 bytes in host memory",
    ]
    await manager.unload("e")
    await manager.load("a")
    assert len(caplog.messages) == 2
    await manager.unload("a")
    await manager.unload("d")
    await manager.load("a")
    await manager.load("d")
    assert caplog.messages[2:] == caplog.messages[:1]


@both_backends
async def test_all_slots_taken_is_no_reason_to_warn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manager = AdapterManager(TieredBackend(), registry_of(tmp_path, "ab", max_loaded=2))
    await manager.load("a")
    await manager.load("b")
    assert caplog.messages == []


@pytest.mark.parametrize("name", ["max_host_bytes", "prefetch_runners_up"])
def test_off_is_a_setting_and_less_is_not(name: str) -> None:
    ManagerOptions(**{name: 0})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=name):
        ManagerOptions(**{name: -1})  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["lease", "prefetch"])
@both_backends
async def test_an_adapter_that_leaves_the_registry_while_it_loads_is_no_ghost(
    tmp_path: Path, how: str
) -> None:
    registry = registry_of(tmp_path, "ab")

    class Removing(TieredBackend):
        async def load_lora_adapter(
            self, adapter_path: str, adapter_name: str, scaling: float = 1.0
        ) -> AdapterInfo:
            info = await super().load_lora_adapter(adapter_path, adapter_name, scaling)
            if adapter_name == "a@1" and registry.knows("a"):
                registry.remove_adapter("a")
            return info

    backend = Removing()
    manager = AdapterManager(backend, registry, options=BUDGET)
    if how == "prefetch":
        await manager.prefetch(["a"])
    else:
        async with manager.lease("a") as lease:
            await lease.generate("x")
    assert backend.loaded == ["a@1"]
    await manager.unload("a@1")
    assert backend.loaded == []
    registry.register_adapter(tmp_path / "a", name="a", domain="aa")
    async with manager.lease("a") as lease:
        await lease.generate("x")
