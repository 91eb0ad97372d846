"""Apply, swap, unload, fuse, scaling, statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio
import pytest
import torch

from intrinsic.errors import (
    AdapterInUseError,
    AdapterNotLoadedError,
    CapabilityError,
    CapacityError,
    CheckpointError,
    ConfigError,
    MixtureError,
)
from intrinsic.hookspecs import hookimpl
from intrinsic.lora import MERGE_METHODS, exact
from intrinsic.manager import AdapterManager, ManagerOptions
from intrinsic.mixture import BASE, Mixture
from intrinsic.plugins import PluginManager
from intrinsic.receipt import Receipt
from intrinsic.selection import Selection
from tests.bus.backends import both_backends
from tests.manager.fakes import FakeBackend, registry_of

QUICK = ManagerOptions(wait_timeout_s=0.05)


@both_backends
async def test_apply_loads_and_binds_to_the_request_and_holds_nothing(tmp_path: Path) -> None:
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "ab"))
    receipt = await manager.apply([Selection("a", 0.9)], request_id="r", route_ms=3.0)
    assert backend.loaded == ["a@1"]
    assert receipt.mixture == Mixture.of({"a@1": 1.0})
    assert receipt.route_ms == 3.0
    assert manager.receipt("r") is receipt
    assert manager.receipt("other") is None
    await manager.unload("a")
    async with manager.lease(receipt):
        assert backend.loaded == ["a@1"]


@both_backends
async def test_what_cannot_be_applied_is_skipped_and_the_rest_stands(tmp_path: Path) -> None:
    options = ManagerOptions(max_loaded=3, exclusive=(frozenset({"a", "c"}),))
    manager = AdapterManager(
        FakeBackend(broken="b"), registry_of(tmp_path, "abcdef"), options=options
    )
    receipt = await manager.apply(
        [
            Selection("c", 0.5),
            Selection("a", 0.9, 0.6),
            Selection("b", 0.8),
            Selection("ghost", 0.7),
            Selection("a@1", 0.6),
            Selection("d", 0.4, 0.4),
            Selection("e", 0.3),
        ]
    )
    assert receipt.mixture == Mixture.of({"a@1": 0.6, "d@1": 0.4})
    why = {skipped.what: skipped.why for skipped in receipt.skipped}
    assert why["c"] == "excluded by a"
    assert "is broken" in why["b"]
    assert "unknown adapter 'ghost'" in why["ghost"]
    assert why["a@1"] == "chosen twice"
    assert "max_loaded=3" in why["e"]


@both_backends
async def test_apply_does_not_wait_for_room_the_lease_does(tmp_path: Path) -> None:
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "ab", max_loaded=1))
    async with manager.lease("a"):
        receipt = await manager.apply([Selection("b", 0.9)])
        assert receipt.mixture == Mixture.of({"b@1": 1.0})
        assert backend.loaded == ["a@1"]
    async with manager.lease(receipt) as lease:
        assert lease.adapters == ("b@1",)


@both_backends
async def test_a_backend_without_weights_gets_the_base_and_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backend = FakeBackend()
    backend.capabilities = frozenset()
    manager = AdapterManager(backend, registry_of(tmp_path, "a"))
    for _ in range(2):
        receipt = await manager.apply([Selection("a", 0.9)])
        assert receipt.mixture == BASE
        assert "no access to weights" in receipt.skipped[0].why
        async with manager.lease(receipt) as lease:
            assert (await lease.generate("x")).text == "x under ()"
    assert len(caplog.records) == 1


@both_backends
async def test_shadow_mode_records_and_loads_nothing(tmp_path: Path) -> None:
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "a"))
    receipt = await manager.apply([Selection("a", 0.9)], shadow=True)
    assert receipt.selections[0].adapter == "a"
    assert receipt.mixture == BASE
    assert receipt.shadow
    assert backend.loaded == []


@both_backends
async def test_receipts_are_bounded(tmp_path: Path) -> None:
    options = ManagerOptions(max_receipts=2)
    manager = AdapterManager(FakeBackend(), registry_of(tmp_path, "a"), options=options)
    for name in "xyz":
        await manager.apply([], request_id=name)
    assert [manager.receipt(name) is None for name in "xyz"] == [True, False, False]


@both_backends
async def test_swap_replaces_the_active_mixture_or_changes_nothing(tmp_path: Path) -> None:
    backend = FakeBackend(broken="c")
    manager = AdapterManager(backend, registry_of(tmp_path, "abcd", max_loaded=4))
    await manager.swap({"a": 1.0, "b": 0.5})
    with pytest.raises(CheckpointError):
        await manager.swap({"c": 1.0, "d": 1.0})
    assert manager.get_active_adapters() == {"a@1": 1.0, "b@1": 0.5}
    assert backend.loaded == ["a@1", "b@1"]
    async with manager.lease("a"):
        await manager.swap("d")
        assert sorted(backend.loaded) == ["a@1", "d@1"]
    assert manager.get_active_adapters() == {"d@1": 1.0}


@both_backends
async def test_unloading_waits_for_running_requests_and_gives_up_in_words(
    tmp_path: Path,
) -> None:
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "a"), options=QUICK)
    await manager.set_active("a")
    async with manager.lease():
        with pytest.raises(AdapterInUseError, match="still in use"):
            await manager.unload("a")
        assert manager.get_active_adapters() == {"a@1": 1.0}
    await manager.unload("a")
    assert backend.loaded == []
    assert manager.get_active_adapters() == {}
    with pytest.raises(AdapterNotLoadedError):
        await manager.unload("a")
    with pytest.raises(AdapterNotLoadedError):
        manager.pin("a")


@both_backends
async def test_a_draining_adapter_takes_no_new_request_until_it_is_loaded_anew(
    tmp_path: Path,
) -> None:
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "a"))
    order: list[str] = []

    async def unload() -> None:
        await manager.unload("a")
        order.append("unloaded")

    async def late() -> None:
        async with manager.lease("a"):
            order.append("late")

    async with anyio.create_task_group() as tasks, manager.lease("a"):
        tasks.start_soon(unload)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(late)
        await anyio.wait_all_tasks_blocked()
        assert order == []
    assert order == ["unloaded", "late"]
    assert backend.loaded == ["a@1"]


@both_backends
async def test_fused_weights_serve_their_mixture_and_give_way_to_any_other(
    tmp_path: Path,
) -> None:
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "ab", max_loaded=1))
    mixture = await manager.fuse({"a": 0.5})
    assert backend.merged == mixture == Mixture.of({"a@1": 0.5})
    async with manager.lease({"a": 0.5}) as lease:
        await lease.generate("x")
        assert backend.merged == mixture
    assert manager.get_stats()["merged"]
    async with manager.lease("b") as lease:
        assert backend.merged is None
        await lease.generate("x")
    assert not manager.get_stats()["merged"]
    assert backend.loaded == ["b@1"]


@both_backends
async def test_fusing_waits_for_requests_under_other_mixtures(tmp_path: Path) -> None:
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "ab"), options=QUICK)
    async with manager.lease("b"):
        with pytest.raises(CapacityError, match="1 requests still run"):
            await manager.fuse("a")
        assert backend.merged is None
    await manager.fuse("a")
    async with manager.lease("a"):
        with pytest.raises(CapacityError):
            async with manager.lease({}):
                pass
    await manager.unload("a")
    assert backend.merged is None
    assert backend.loaded == ["b@1"]


@both_backends
async def test_requests_queue_behind_a_change_of_mode(tmp_path: Path) -> None:
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "ab"))
    order: list[str] = []

    async def under(name: str) -> None:
        async with manager.lease(name) as lease:
            order.append(name)
            await lease.generate("x")

    await manager.fuse("a")
    async with anyio.create_task_group() as tasks, manager.lease("a"):
        tasks.start_soon(under, "b")
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(under, "a")
        await anyio.wait_all_tasks_blocked()
        assert order == []
    assert sorted(order) == ["a", "b"]
    assert backend.merged is None


@both_backends
async def test_fusing_the_base_restores_and_an_unable_backend_refuses(tmp_path: Path) -> None:
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "a"))
    await manager.fuse("a")
    await manager.fuse({})
    assert backend.merged is None
    await manager.fuse("a")
    await manager.unfuse()
    await manager.unfuse()
    assert backend.merged is None
    backend.capabilities = frozenset()
    with pytest.raises(CapabilityError, match="cannot merge"):
        await manager.fuse("a")


@both_backends
async def test_plugins_may_add_merge_methods(tmp_path: Path) -> None:
    def largest(deltas: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
        return max(deltas, key=lambda delta: float(delta.norm()))

    class Methods:
        @hookimpl
        def register_merge_methods(self) -> Mapping[str, object]:
            return {"largest": largest}

    plugins = PluginManager.with_builtins()
    plugins.register(Methods())
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "a"), plugins=plugins)
    await manager.fuse("a", method="largest")
    assert backend.calls[-1] == ("merge", largest)
    await manager.fuse("a", method="exact")
    assert backend.calls[-1] == ("merge", exact)
    assert [call for call, _ in backend.calls] == ["load", "merge", "restore", "merge"]
    await manager.fuse("a", method=largest)
    assert backend.calls[-1] == ("merge", largest)
    calls = len(backend.calls)
    await manager.fuse("a", method=largest)
    assert len(backend.calls) == calls
    with pytest.raises(ConfigError, match=r"unknown merge method 'magic'; known: dare, .*largest"):
        await manager.fuse("a", method="magic")


@both_backends
async def test_the_built_in_merge_methods_are_known_by_name(tmp_path: Path) -> None:
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "a"))
    for name, method in MERGE_METHODS.items():
        await manager.fuse("a", method=name)
        merged = [method for call, method in backend.calls if call == "merge"]
        assert merged[-1] == (None if name == "exact" else method)


@both_backends
async def test_a_merge_that_fails_leaves_the_base_and_holds_nothing(tmp_path: Path) -> None:
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "a"))

    async def fail(mixture: Mixture, method: object = None) -> None:
        raise MemoryError

    backend.merge = fail  # type: ignore[method-assign]
    with pytest.raises(MemoryError):
        await manager.fuse("a")
    assert not manager.get_stats()["merged"]
    await manager.unload("a")


@both_backends
async def test_scaling_is_idempotent_and_never_compounds(tmp_path: Path) -> None:
    manager = AdapterManager(FakeBackend(), registry_of(tmp_path, "ab"))
    early = manager.set_scaling("a", 0.5)
    assert early.layers == 0
    async with manager.lease({"a": 0.8, "b": 1.0}) as running:
        for _ in range(2):
            report = manager.set_scaling("a", 0.5)
            assert (report.adapter, report.scaling, report.layers) == ("a@1", 0.5, 2)
        assert running.mixture == Mixture.of({"a@1": 0.4, "b@1": 1.0})
        manager.set_scaling("a", 1)
        assert running.mixture == Mixture.of({"a@1": 0.4, "b@1": 1.0})
    async with manager.lease({"a": 0.8}) as lease:
        assert lease.mixture == Mixture.of({"a@1": 0.8})
    for bad in (float("nan"), float("inf"), "0.5", True, None):
        with pytest.raises(MixtureError, match="scaling of 'a@1'"):
            manager.set_scaling("a", bad)  # type: ignore[arg-type]


@both_backends
async def test_scaling_while_fused_takes_the_old_mixture_out(tmp_path: Path) -> None:
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "a"))
    await manager.fuse("a")
    manager.set_scaling("a", 0.5)
    async with manager.lease("a") as lease:
        assert lease.mixture == Mixture.of({"a@1": 0.5})
        assert backend.merged is None


@both_backends
async def test_an_adapter_registered_later_is_there_and_a_removed_one_is_not(
    tmp_path: Path,
) -> None:
    registry = registry_of(tmp_path, "a")
    manager = AdapterManager(FakeBackend(), registry)
    registry_of(tmp_path / "more", "z")
    registry.scan(tmp_path / "more")
    async with manager.lease("z"):
        pass
    registry.remove_adapter("z")
    receipt = await manager.apply([Selection("z", 0.9)])
    assert receipt.mixture == BASE


@both_backends
async def test_plugins_hear_of_loads_evictions_and_generations(tmp_path: Path) -> None:
    heard: list[tuple[str, object]] = []

    class Listener:
        @hookimpl
        def on_adapter_loaded(self, adapter: str, load_ms: float) -> None:
            heard.append(("loaded", adapter))

        @hookimpl
        async def on_adapter_evicted(self, adapter: str, reason: str) -> None:
            heard.append((reason, adapter))

        @hookimpl
        def on_generation(self, receipt: Receipt, tokens: int) -> None:
            heard.append((receipt.request_id, tokens))

    plugins = PluginManager()
    plugins.register(Listener())
    registry = registry_of(tmp_path, "ab", max_loaded=1)
    manager = AdapterManager(FakeBackend(), registry, plugins=plugins)
    receipt = await manager.apply([Selection("a", 0.9)], request_id="r")
    async with manager.lease(receipt) as lease:
        await lease.generate("x")
    await manager.load("b")
    assert heard == [("loaded", "a@1"), ("r", 1), ("no room", "a@1"), ("loaded", "b@1")]


@both_backends
async def test_statistics_name_every_tier(tmp_path: Path) -> None:
    manager = AdapterManager(FakeBackend(), registry_of(tmp_path, "abc"))
    await manager.load("a")
    stats = manager.get_stats()
    assert stats["l1_utilization"] == 0.5
    assert stats["l1_used_bytes"] == 100
    assert stats["l2_utilization"] == 0.0
    assert stats["l3_entries"] == 3
    assert stats["bytes_by_adapter"] == {"a@1": 100}


@pytest.mark.parametrize(
    "setting", [{"max_loaded": 0}, {"max_bytes": 0}, {"wait_timeout_s": 0}, {"max_receipts": 0}]
)
def test_options_that_make_no_sense_are_refused(setting: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        ManagerOptions(**setting)  # type: ignore[arg-type]
