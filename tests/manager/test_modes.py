"""A mixture that is asked for again and again is written into the weights, and given way."""

from __future__ import annotations

import logging
from pathlib import Path

import anyio
import pytest

from intrinsic.backends import Capability, GenerationOptions
from intrinsic.backends.transformers_backend import TransformersBackend
from intrinsic.errors import ConfigError, UnsupportedAdapterError
from intrinsic.lora import MergeMethod
from intrinsic.manager import AdapterManager, ManagerOptions
from intrinsic.manager.options import Mode
from intrinsic.mixture import Mixture
from intrinsic.registry import AdapterRegistry
from tests.bus.backends import both_backends
from tests.manager.fakes import FakeBackend, registry_of
from tests.tiny import llama, tokenizer, write_adapter


def manager_of(folder: Path, backend: FakeBackend, mode: Mode = "auto") -> AdapterManager:
    return AdapterManager(backend, registry_of(folder, "ab"), options=ManagerOptions(mode=mode))


async def ask(manager: AdapterManager, name: str, times: int = 1) -> None:
    for _ in range(times):
        async with manager.lease(name or {}) as lease:
            await lease.generate("x")


def merges(backend: FakeBackend) -> int:
    return sum(call == "merge" for call, _ in backend.calls)


@both_backends
async def test_auto_merges_once_side_cars_have_cost_as_much(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.break_even = 3.0
    manager = manager_of(tmp_path, backend)
    await ask(manager, "a", 3)
    assert backend.merged is None  # a token each: three are spent now
    await ask(manager, "a")
    assert backend.merged == Mixture.of({"a@1": 1.0})
    await ask(manager, "a", 5)
    assert merges(backend) == 1
    assert sum(call == "break even" for call, _ in backend.calls) == 1
    assert manager.get_stats()["merged"]


@both_backends
async def test_another_mixture_gets_the_pristine_weights_and_starts_the_count_anew(
    tmp_path: Path,
) -> None:
    backend = FakeBackend()
    manager = manager_of(tmp_path, backend)
    await ask(manager, "a", 4)
    assert backend.merged is not None
    await ask(manager, "b")
    assert backend.merged is None
    await ask(manager, "a", 2)
    assert backend.merged is None
    await ask(manager, "a")
    assert backend.merged is not None


@both_backends
async def test_mixtures_that_take_turns_are_never_merged(tmp_path: Path) -> None:
    backend = FakeBackend()
    manager = manager_of(tmp_path, backend)
    for _ in range(10):
        await ask(manager, "a", 2)
        await ask(manager, "b", 2)
        await ask(manager, "", 5)
    assert merges(backend) == 0


@pytest.mark.parametrize("other", ["a", "b"])
@both_backends
async def test_auto_never_merges_while_a_request_runs(tmp_path: Path, other: str) -> None:
    backend = FakeBackend()
    backend.break_even = 1.0
    manager = manager_of(tmp_path, backend)
    async with manager.lease(other):
        await ask(manager, "a", 5)
        assert backend.merged is None
    await ask(manager, "a", 2)
    assert backend.merged is not None


@both_backends
async def test_the_base_is_no_mixture_to_merge(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.break_even = 0.0
    modes: tuple[Mode, ...] = ("auto", "merged")
    for mode in modes:
        await ask(manager_of(tmp_path, backend, mode), "", 5)
    assert merges(backend) == 0


@both_backends
async def test_merged_mode_merges_each_mixture_at_once(tmp_path: Path) -> None:
    backend = FakeBackend()
    manager = manager_of(tmp_path, backend, "merged")
    for name in "abba":
        async with manager.lease(name):
            assert backend.merged == Mixture.of({f"{name}@1": 1.0})
    assert merges(backend) == 3
    await ask(manager, "")
    assert backend.merged is None


@both_backends
async def test_sidecar_mode_is_the_default_and_merges_nothing(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.break_even = 0.0
    await ask(AdapterManager(backend, registry_of(tmp_path, "ab")), "a", 5)
    assert merges(backend) == 0
    with pytest.raises(ConfigError, match="mode is 'fused'; it must be one of sidecar, merged"):
        ManagerOptions(mode="fused")  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["auto", "merged"])
@both_backends
async def test_what_cannot_be_merged_is_served_by_side_cars(
    tmp_path: Path, mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    class Refusing(FakeBackend):
        async def merge(self, mixture: Mixture, method: MergeMethod | None = None) -> None:
            self.calls.append(("merge", method))
            raise UnsupportedAdapterError("the head shares its weight")

    backend = Refusing()
    manager = manager_of(tmp_path, backend, mode)
    with caplog.at_level(logging.WARNING, logger="intrinsic.manager"):
        await ask(manager, "a", 6)
    assert merges(backend) == 1
    assert caplog.text.count("it cannot be merged: the head shares its weight") == 1
    await manager.unload("a")


@both_backends
async def test_a_backend_that_cannot_merge_serves_by_side_cars(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.capabilities -= {Capability.MERGE}
    await ask(manager_of(tmp_path, backend, "merged"), "a", 3)
    assert merges(backend) == 0


@both_backends
async def test_a_real_model_answers_the_same_in_every_mode(tmp_path: Path) -> None:
    backend = TransformersBackend(llama(), tokenizer())
    registry = AdapterRegistry(max_loaded=2)
    for seed, name in enumerate("ab"):
        path = write_adapter(tmp_path / name, backend.model, seed=seed)
        registry.register_adapter(path, name=name)
    before = await backend.fingerprint()
    asked = ["a", "a", "b", "a", "a", "a", "a", "b"]
    texts: dict[str, list[str]] = {}
    modes: tuple[Mode, ...] = ("sidecar", "merged", "auto")
    for mode in modes:
        options = ManagerOptions(mode=mode)
        manager = AdapterManager(backend, registry, options=options)
        manager._policy._break_even = {("a@1",): 30.0, ("b@1",): 30.0}
        texts[mode], merged = [], []
        for name in asked:
            async with manager.lease(name) as lease:
                merged.append(manager.get_stats()["merged"])
                generation = await lease.generate("hello", GenerationOptions(max_new_tokens=12))
                texts[mode].append(generation.text)
        expected = {"sidecar": [], "merged": range(8), "auto": [6]}[mode]
        assert [at for at, was in enumerate(merged) if was] == list(expected)
        for name in "ab":
            await manager.unload(name)
    assert texts["sidecar"] == texts["merged"] == texts["auto"]
    assert await backend.fingerprint() == before


@both_backends
async def test_many_requests_at_once_in_auto_mode_are_all_answered(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.break_even = 1.0
    manager = manager_of(tmp_path, backend)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for number in range(30):
                tasks.start_soon(ask, manager, "aab"[number % 3], 3)
    assert manager.get_stats()["leases"] == 0
