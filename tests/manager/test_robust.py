"""What went wrong once: streams that are left, evictions that fail, adapters that vanish."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from intrinsic.errors import AdapterNotLoadedError, CapacityError
from intrinsic.hookspecs import hookimpl
from intrinsic.lora import MergeMethod
from intrinsic.manager import AdapterManager, ManagerOptions
from intrinsic.mixture import BASE, Mixture
from intrinsic.plugins import PluginManager
from intrinsic.selection import Selection
from tests.bus.backends import both_backends
from tests.manager.fakes import FakeBackend, registry_of
from tests.tiny import write_files

QUICK = ManagerOptions(wait_timeout_s=0.05)


@both_backends
async def test_a_stream_that_is_left_with_break_frees_its_adapter_with_the_lease(
    tmp_path: Path,
) -> None:
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "ab", max_loaded=1))
    async with manager.lease("a") as lease:
        stream = lease.stream("x")
        async for _ in stream:
            break
        assert backend.running
    assert not backend.running
    async with manager.lease("b"):
        assert backend.loaded == ["b@1"]
    await stream.aclose()


@both_backends
async def test_an_eviction_that_fails_leaves_the_newcomer_off_and_usable_later(
    tmp_path: Path,
) -> None:
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "ab", max_loaded=1))
    await manager.load("a")
    backend.stuck = {"a@1"}
    with pytest.raises(CapacityError, match="no room: a@1"):
        await manager.load("b")
    assert backend.loaded == ["a@1"]
    backend.stuck = set()
    await manager.load("b")
    assert backend.loaded == ["b@1"]


@both_backends
async def test_whichever_adapter_is_free_first_makes_room(tmp_path: Path) -> None:
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "abc"))
    let_b_go = anyio.Event()
    got = anyio.Event()

    async def use_b() -> None:
        async with manager.lease("b"):
            await let_b_go.wait()

    async def use_c() -> None:
        async with manager.lease("c"):
            got.set()

    async with anyio.create_task_group() as tasks, manager.lease("a"):
        tasks.start_soon(use_b)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(use_c)
        await anyio.wait_all_tasks_blocked()
        let_b_go.set()
        await got.wait()
        assert sorted(backend.loaded) == ["a@1", "c@1"]


@both_backends
async def test_files_that_replace_others_under_the_same_name_are_loaded_anew(
    tmp_path: Path,
) -> None:
    backend = FakeBackend()
    registry = registry_of(tmp_path, "a")
    manager = AdapterManager(backend, registry)
    await manager.load("a")
    registry.remove_adapter("a")
    registry.register_adapter(write_files(tmp_path / "new", {}), name="a")
    async with manager.lease("a"):
        assert backend.calls == [("load", "a@1"), ("unload", "a@1"), ("load", "a@1")]


@both_backends
async def test_an_adapter_that_left_the_registry_can_still_be_unpinned_and_unloaded(
    tmp_path: Path,
) -> None:
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "a"))
    await manager.load("a", pin=True)
    manager.registry.remove_adapter("a")
    manager.pin("a", pinned=False)
    await manager.unload("a@1")
    assert backend.loaded == []
    with pytest.raises(LookupError):
        await manager.unload("a")


@both_backends
async def test_a_routed_request_goes_on_with_what_can_be_had(tmp_path: Path) -> None:
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "abp"), options=QUICK)
    await manager.load("p", pin=True)
    receipt = await manager.apply([Selection("a", 0.9, 0.7), Selection("b", 0.8, 0.3)])
    async with manager.lease(receipt) as lease:
        assert lease.mixture == Mixture.of({"a@1": 0.7})
        assert [skipped.what for skipped in lease.skipped] == ["b@1"]
    backend.broken = {"a", "b"}
    await manager.unload("a")
    async with manager.lease(receipt) as lease:
        assert lease.mixture == BASE
        assert {skipped.what for skipped in lease.skipped} == {"a@1", "b@1"}
        assert (await lease.generate("x")).text == "x under ()"
    with pytest.raises(CapacityError):
        async with manager.lease({"a": 0.7, "b": 0.3}):
            pass
    assert manager.get_stats()["leases"] == 0


@both_backends
async def test_the_wait_for_a_turn_is_bounded_too(tmp_path: Path) -> None:
    manager = AdapterManager(
        FakeBackend(), registry_of(tmp_path, "abc", max_loaded=1), options=QUICK
    )
    failed: list[str] = []

    async def use(name: str) -> None:
        with pytest.raises(CapacityError):
            async with manager.lease(name):
                raise AssertionError("there is no room")
        failed.append(name)

    async with manager.lease("a"):
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(use, "b")
                tasks.start_soon(use, "c")
    assert sorted(failed) == ["b", "c"]


@both_backends
async def test_merged_weights_give_way_to_a_load_that_needs_their_room(tmp_path: Path) -> None:
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "ab", max_loaded=1), options=QUICK)
    await manager.fuse("a")
    await manager.swap("b")
    assert backend.merged is None
    assert backend.loaded == ["b@1"]


@both_backends
async def test_a_fuse_that_fails_leaves_the_mixture_that_was_fused(tmp_path: Path) -> None:
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "ab"))
    former = await manager.fuse("a")
    merge = backend.merge

    async def fails_for_b(mixture: Mixture, method: MergeMethod | None = None) -> None:
        if "b@1" in mixture.adapters:
            raise MemoryError
        await merge(mixture, method)

    backend.merge = fails_for_b  # type: ignore[method-assign]
    with pytest.raises(MemoryError):
        await manager.fuse("b")
    assert backend.merged == former
    async with manager.lease("a"):
        assert backend.merged == former


@both_backends
async def test_hooks_may_ask_the_manager_for_more_and_hear_of_streams(tmp_path: Path) -> None:
    heard: list[int] = []
    backend = FakeBackend()
    plugins = PluginManager()
    manager = AdapterManager(backend, registry_of(tmp_path, "ab"), plugins=plugins)

    class Prefetch:
        @hookimpl
        async def on_adapter_loaded(self, adapter: str) -> None:
            if adapter == "a@1":
                await manager.load("b")

        @hookimpl
        def on_generation(self, tokens: int) -> None:
            heard.append(tokens)

    plugins.register(Prefetch())
    async with manager.lease("a") as lease:
        assert backend.loaded == ["a@1", "b@1"]
        pieces = [piece async for piece in lease.stream("x")]
    assert heard == [len(pieces)]


@both_backends
async def test_what_is_not_loaded_cannot_be_pinned(tmp_path: Path) -> None:
    manager = AdapterManager(FakeBackend(), registry_of(tmp_path, "a"))
    with pytest.raises(AdapterNotLoadedError):
        manager.pin("a")
