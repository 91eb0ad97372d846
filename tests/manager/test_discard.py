"""Adapters taken out of memory at once, unless somebody needs them."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from intrinsic.backends import AdapterInfo
from intrinsic.errors import AdapterNotFoundError
from intrinsic.manager import AdapterManager
from tests.bus.backends import both_backends
from tests.manager.fakes import TieredBackend, registry_of


class SlowBackend(TieredBackend):
    """Says that loading began, and waits to be told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.go = anyio.Event(), anyio.Event()

    async def load_lora_adapter(
        self, adapter_path: str, adapter_name: str, scaling: float = 1.0
    ) -> AdapterInfo:
        self.began.set()
        await self.go.wait()
        return await super().load_lora_adapter(adapter_path, adapter_name, scaling)


@both_backends
async def test_it_leaves_device_and_host_memory(tmp_path: Path) -> None:
    backend = TieredBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "abc"))
    await manager.prefetch(["a", "b", "c"])
    assert backend.loaded == ["a@1", "b@1"]
    for name in "ac":
        assert await manager.discard(name)
    assert backend.loaded == ["b@1"]
    assert [Path(path).name for path in backend.host] == ["b"]
    assert await manager.discard("a")  # once more is no error
    with pytest.raises(AdapterNotFoundError):
        await manager.discard("none")


@both_backends
async def test_what_somebody_needs_stays(tmp_path: Path) -> None:
    backend = TieredBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "ab"))
    async with manager.lease("a"):
        assert not await manager.discard("a")
    await manager.set_active({"a": 1.0})
    assert not await manager.discard("a")
    await manager.set_active(None)
    await manager.load("a", pin=True)
    assert not await manager.discard("a")
    manager.pin("a", pinned=False)
    await manager.fuse("a")
    assert not await manager.discard("a")
    await manager.unfuse()
    assert await manager.discard("a")
    assert backend.loaded == []


@both_backends
async def test_it_waits_for_nobody(tmp_path: Path) -> None:
    backend = SlowBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "ab"))
    async with anyio.create_task_group() as group:
        group.start_soon(manager.load, "a")
        await backend.began.wait()
        assert not await manager.discard("b")
        assert not await manager.discard("a")
        backend.go.set()
    assert backend.loaded == ["a@1"]
    assert await manager.discard("a")
