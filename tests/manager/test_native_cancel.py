"""asyncio's own cancellation, at any point: what the manager believes is what the engine has."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from intrinsic.backends import GenerationOptions
from intrinsic.backends.transformers_backend import TransformersBackend
from intrinsic.lora import MergeMethod
from intrinsic.manager import AdapterManager, ManagerOptions
from intrinsic.mixture import Mixture
from intrinsic.registry import AdapterRegistry
from tests.test_worker import Gate, cancel_twice
from tests.tiny import llama, tokenizer, write_adapter

SHORT = GenerationOptions(max_new_tokens=3)


def manager_of(folder: Path, *, max_loaded: int = 2) -> tuple[AdapterManager, TransformersBackend]:
    backend = TransformersBackend(llama(), tokenizer())
    registry = AdapterRegistry(max_loaded=max_loaded)
    for seed, name in enumerate("ab"):
        path = write_adapter(folder / name, backend.model, seed=seed)
        registry.register_adapter(path, name=name)
    return AdapterManager(backend, registry, options=ManagerOptions(wait_timeout_s=5)), backend


def test_a_merge_that_is_cancelled_leaves_the_base(tmp_path: Path) -> None:
    async def main() -> None:
        manager, backend = manager_of(tmp_path)
        before = await backend.fingerprint()
        gate, merge = Gate(), backend.engine.merge

        def slow(mixture: Mixture, method: MergeMethod) -> None:
            merge(mixture, method)
            gate()

        backend.engine.merge = slow  # type: ignore[assignment,method-assign]
        task = asyncio.create_task(manager.fuse("a"))
        await gate.until_entered()
        await cancel_twice(task)
        gate.opened.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert backend.engine.merged is None
        async with manager.lease("b") as lease:
            await lease.generate("hello", SHORT)
        assert await backend.fingerprint() == before
        await manager.unload("a")

    asyncio.run(main())


@pytest.mark.parametrize("steps", range(12))
@pytest.mark.parametrize("how", ["unload", "evict"])
def test_a_cancelled_unload_leaves_no_ghost(tmp_path: Path, how: str, steps: int) -> None:
    async def main() -> None:
        manager, backend = manager_of(tmp_path, max_loaded=1)
        await manager.load("a")
        call = manager.unload("a") if how == "unload" else manager.load("b")
        task = asyncio.create_task(call)
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        on_device = {adapter.id for adapter in backend.engine.loaded}
        assert on_device == set(manager.get_stats()["bytes_by_adapter"])
        for name in "ab":
            async with manager.lease(name) as lease:
                await lease.generate("hello", SHORT)

    asyncio.run(main())


def test_two_requests_that_measure_at_once_do_not_spoil_auto(tmp_path: Path) -> None:
    async def main() -> None:
        manager, backend = manager_of(tmp_path)
        manager = AdapterManager(
            backend, manager.registry, options=ManagerOptions(mode="auto", wait_timeout_s=5)
        )
        measured: list[int] = []
        started, opened = threading.Event(), threading.Event()
        real = backend.engine.break_even

        def slow(mixture: Mixture) -> object:
            measured.append(1)
            started.set()
            assert opened.wait(10)
            return real(mixture)

        backend.engine.break_even = slow  # type: ignore[assignment,method-assign]

        async def ask() -> None:
            async with manager.lease("a") as lease:
                await lease.generate("hello", SHORT)

        await ask()
        tasks = [asyncio.create_task(ask()) for _ in range(2)]
        await asyncio.to_thread(started.wait, 10)
        fuse = asyncio.create_task(manager.fuse("b"))  # waits for the measurement
        for _ in range(20):
            await asyncio.sleep(0)
        assert not fuse.done()
        opened.set()
        await asyncio.gather(*tasks, fuse)
        assert measured == [1]
        assert not manager._policy._refused

    asyncio.run(main())
