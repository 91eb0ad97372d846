"""What is in the weights gives way to loads and unloads, without anybody waiting for a timeout."""

from __future__ import annotations

from pathlib import Path

import anyio

from intrinsic.lora import MergeMethod
from intrinsic.manager import AdapterManager, ManagerOptions
from intrinsic.mixture import Mixture
from tests.bus.backends import both_backends
from tests.manager.fakes import FakeBackend, registry_of


class SlowMerges(FakeBackend):
    """A merge says that it has begun, and waits."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go_on = anyio.Event(), anyio.Event()

    async def merge(self, mixture: Mixture, method: MergeMethod | None = None) -> None:
        self.begun.set()
        await self.go_on.wait()
        await super().merge(mixture, method)


def manager_of(folder: Path, backend: FakeBackend, max_loaded: int = 2) -> AdapterManager:
    options = ManagerOptions(max_loaded=max_loaded, wait_timeout_s=1000)
    return AdapterManager(backend, registry_of(folder, "ab"), options=options)


@both_backends
async def test_what_is_merged_while_it_is_to_be_unloaded_is_taken_out(tmp_path: Path) -> None:
    backend = SlowMerges()
    manager = manager_of(tmp_path, backend)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(manager.fuse, "a")
        await backend.begun.wait()
        tasks.start_soon(manager.unload, "a")
        await anyio.wait_all_tasks_blocked()
        backend.go_on.set()
    assert backend.loaded == []
    assert not manager.get_stats()["merged"]


@both_backends
async def test_what_is_merged_while_another_waits_for_its_slot_is_taken_out(tmp_path: Path) -> None:
    backend = SlowMerges()
    manager = manager_of(tmp_path, backend, max_loaded=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(manager.fuse, "a")
        await backend.begun.wait()
        tasks.start_soon(manager.load, "b")
        await anyio.wait_all_tasks_blocked()
        backend.go_on.set()
    assert backend.loaded == ["b@1"]
    assert not manager.get_stats()["merged"]


@both_backends
async def test_what_is_merged_stays_where_another_one_can_go(tmp_path: Path) -> None:
    backend = FakeBackend()
    manager = AdapterManager(
        backend, registry_of(tmp_path, "abc"), options=ManagerOptions(max_loaded=2)
    )
    await manager.fuse("a")
    await manager.load("b")
    await manager.load("c")
    assert backend.loaded == ["a@1", "c@1"]
    assert manager.get_stats()["merged"]


@both_backends
async def test_merged_weights_of_replaced_files_are_taken_out_and_a_pin_stays(
    tmp_path: Path,
) -> None:
    backend = FakeBackend()
    manager = manager_of(tmp_path / "old", backend)
    registry = manager.registry
    await manager.load("a", pin=True)
    await manager.fuse("a")
    registry.remove_adapter("a")
    other = registry_of(tmp_path / "new", "a").get_adapter("a").path
    registry.register_adapter(other, name="a", version="1")
    async with manager.lease("a") as lease:
        await lease.generate("x")
    assert not manager.get_stats()["merged"]
    assert manager._loader.table["a@1"].path == str(other)
    assert manager._loader.table["a@1"].pinned
