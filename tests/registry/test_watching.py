"""What is dropped into a watched folder is registered, and offered to routing."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from intrinsic.bus import MemoryBus
from intrinsic.errors import ConfigError
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.rescan import Rescanned
from intrinsic.registry.watching import watch
from tests.bus.backends import both_backends
from tests.tiny import llama, write_adapter

WAIT_S = 60


@both_backends
async def test_an_adapter_that_is_dropped_in_is_offered_to_routing(tmp_path: Path) -> None:
    folder, ready = tmp_path / "adapters", write_adapter(tmp_path / "made", llama())
    write_adapter(folder / "first", llama())
    looked, new = anyio.Event(), anyio.Event()
    heard: list[str] = []

    def hear(found: Rescanned) -> None:
        heard.extend(one.key for one in found.registered)
        looked.set()
        if "second@1" in heard:
            new.set()

    async with AdapterCatalog(tmp_path / "adapters.db") as catalog:
        with anyio.fail_after(WAIT_S):
            async with anyio.create_task_group() as group:

                async def run() -> None:
                    await watch(catalog, folder, heard=hear)

                group.start_soon(run)
                await looked.wait()
                assert [e.key for e in catalog.live.list_adapters()] == ["first@1"]
                shutil.copytree(ready, folder / "second")
                await new.wait()
                group.cancel_scope.cancel()
        assert [e.key for e in catalog.live.list_adapters()] == ["first@1", "second@1"]
        assert heard == ["first@1", "second@1"]


@both_backends
async def test_what_is_refused_is_logged_once_and_registered_when_it_is_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "adapters"
    half = write_adapter(folder / "half", llama())
    weights = (half / "adapter_model.safetensors").read_bytes()
    (half / "adapter_model.safetensors").write_bytes(weights[:200])
    bus, whole = MemoryBus(), anyio.Event()
    bus.on("adapter.registered", lambda notice: whole.set())
    rounds = 0

    def hear(found: Rescanned) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            (folder / "note.txt").write_text("nothing to see")
        elif rounds == 2:
            (half / "adapter_model.safetensors").write_bytes(weights)

    async with AdapterCatalog(tmp_path / "adapters.db", bus=bus) as catalog:
        with anyio.fail_after(WAIT_S):
            async with anyio.create_task_group() as group:

                async def run() -> None:
                    await watch(catalog, folder, heard=hear)

                group.start_soon(run)
                await whole.wait()
                group.cancel_scope.cancel()
    assert sum("is left out" in line for line in caplog.messages) == 1


@both_backends
async def test_without_a_folder_or_without_watchfiles_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AdapterCatalog(tmp_path / "adapters.db") as catalog:
        with pytest.raises(ConfigError, match="does not exist"):
            await watch(catalog, tmp_path / "none")
        monkeypatch.setitem(sys.modules, "watchfiles", None)
        with pytest.raises(ConfigError, match=r"intrinsic-lora\[watch\]"):
            await watch(catalog, tmp_path)


@pytest.mark.parametrize("steps", range(0, 60, 3))
def test_a_task_that_is_cancelled_at_any_moment_ends(tmp_path: Path, steps: int) -> None:
    """With asyncio's own cancellation, which comes once; so does Ctrl-C."""

    async def main() -> None:
        folder = tmp_path / "adapters"
        write_adapter(folder / "first", llama())
        async with AdapterCatalog(tmp_path / "adapters.db") as catalog:
            rounds = 0

            def hear(found: Rescanned) -> None:
                nonlocal rounds
                rounds += 1
                (folder / f"note{rounds}.txt").write_text("look again")

            task = asyncio.ensure_future(watch(catalog, folder, heard=hear))
            while rounds == 0:
                await anyio.lowlevel.checkpoint()
            for _ in range(steps * steps):
                await anyio.lowlevel.checkpoint()
            task.cancel()
            await asyncio.wait([task], timeout=WAIT_S)
            assert task.cancelled()

    asyncio.run(main())
