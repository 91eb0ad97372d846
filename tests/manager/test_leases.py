"""Leases: what a request asked for is there, and stays while it runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint

from intrinsic.backends import AdapterInfo, Generation, GenerationOptions, Piece, Prompt
from intrinsic.backends.options import GREEDY
from intrinsic.errors import (
    AdapterNotFoundError,
    AdapterNotLoadedError,
    CapabilityError,
    CapacityError,
    CheckpointError,
    MixtureError,
)
from intrinsic.events import MemoryEvent
from intrinsic.hookspecs import hookimpl
from intrinsic.manager import AdapterManager, ManagerOptions
from intrinsic.mixture import BASE, Mixture
from intrinsic.plugins import PluginManager
from intrinsic.selection import Selection
from tests.bus.backends import both_backends
from tests.manager.fakes import FakeBackend, registry_of

QUICK = ManagerOptions(wait_timeout_s=0.05)


@both_backends
async def test_every_form_of_asking_means_the_same_mixture(tmp_path: Path) -> None:
    manager = AdapterManager(FakeBackend(), registry_of(tmp_path, "ab"))
    selections = [Selection("a", 0.9, 0.7), Selection("b", 0.8, 0.3)]
    receipt = await manager.apply(selections, request_id="r")
    expected = (("a@1", 0.7), ("b@1", 0.3))
    for what in (
        receipt,
        receipt.mixture,
        selections,
        {"a": 0.7, "b@1": 0.3},
        MemoryEvent.from_text("x", request_id="r"),
    ):
        async with manager.lease(what) as lease:
            assert lease.mixture.entries == expected
    async with manager.lease("a") as lease:
        assert lease.mixture.entries == (("a@1", 1.0),)
    async with manager.lease(selections[1]) as lease:
        assert lease.adapters == ("b@1",)


@both_backends
async def test_a_lease_of_nothing_is_the_active_mixture_and_at_first_the_base(
    tmp_path: Path,
) -> None:
    manager = AdapterManager(FakeBackend(), registry_of(tmp_path, "ab"))
    async with manager.lease() as lease:
        assert lease.mixture == BASE
    await manager.set_active({"a": 2.0})
    async with manager.lease() as lease:
        assert lease.mixture == Mixture.of({"a@1": 2.0})
    assert manager.get_active_adapters() == {"a@1": 2.0}
    await manager.set_active(None)
    async with manager.lease(MemoryEvent.from_text("never published")) as lease:
        assert lease.mixture == BASE


@both_backends
async def test_the_least_recently_used_adapter_goes(tmp_path: Path) -> None:
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "abc"))
    for name in "aba":
        async with manager.lease(name):
            pass
    async with manager.lease("c"):
        assert sorted(backend.loaded) == ["a@1", "c@1"]
    stats = manager.get_stats()
    assert (stats["hits"], stats["misses"], stats["evictions"]) == (1, 3, 1)
    assert manager.registry.loaded_adapters == ("a@1", "c@1")


@both_backends
async def test_an_adapter_in_use_is_never_evicted_even_as_the_least_recent(
    tmp_path: Path,
) -> None:
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "abc"))
    async with manager.lease("a"):
        async with manager.lease("b"):
            pass
        async with manager.lease("c"):
            assert backend.loaded == ["a@1", "c@1"]


@both_backends
async def test_a_pinned_adapter_is_never_evicted(tmp_path: Path) -> None:
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "abcd"))
    await manager.load("a", pin=True)
    for name in "bcd":
        async with manager.lease(name):
            pass
    assert backend.loaded == ["a@1", "d@1"]
    manager.pin("a", pinned=False)
    async with manager.lease({"b": 1, "c": 1}):
        assert backend.loaded == ["b@1", "c@1"]


@both_backends
async def test_an_adapter_that_is_being_evicted_is_not_pinned_in_vain(tmp_path: Path) -> None:
    class SlowLoads(FakeBackend):
        begun, go_on = anyio.Event(), anyio.Event()

        async def load_lora_adapter(
            self, adapter_path: str, adapter_name: str, scaling: float = 1.0
        ) -> AdapterInfo:
            if adapter_name == "b@1":
                self.begun.set()
                await self.go_on.wait()
            return await super().load_lora_adapter(adapter_path, adapter_name, scaling)

    backend = SlowLoads()
    manager = AdapterManager(backend, registry_of(tmp_path, "ab", max_loaded=1))
    await manager.load("a")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(manager.load, "b")
        await backend.begun.wait()
        try:
            with pytest.raises(AdapterNotLoadedError, match="load it first"):
                manager.pin("a")
        finally:
            backend.go_on.set()
    await manager.load("a", pin=True)
    with pytest.raises(CapacityError, match="pinned"):
        await manager.load("b")
    assert backend.loaded == ["a@1"]


@both_backends
async def test_the_victim_goes_only_after_the_newcomer_is_loaded_and_checked(
    tmp_path: Path,
) -> None:
    backend = FakeBackend(broken="c")
    manager = AdapterManager(backend, registry_of(tmp_path, "abcd"))
    async with manager.lease({"a": 1, "b": 1}):
        pass
    with pytest.raises(CheckpointError):
        async with manager.lease("c"):
            pass
    assert backend.loaded == ["a@1", "b@1"]
    async with manager.lease("d"):
        pass
    assert backend.calls[-2:] == [("load", "d@1"), ("unload", "a@1")]


@both_backends
async def test_a_mixture_is_loaded_whole_or_not_at_all(tmp_path: Path) -> None:
    backend = FakeBackend(broken="b")
    manager = AdapterManager(backend, registry_of(tmp_path, "ab"))
    with pytest.raises(CheckpointError):
        async with manager.lease({"a": 1, "b": 1}):
            pass
    assert backend.loaded == []
    assert manager.get_stats()["l1_entries"] == 0


@both_backends
async def test_asking_again_for_what_is_loaded_evicts_nothing(tmp_path: Path) -> None:
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "ab"))
    for _ in range(3):
        await manager.set_active({"a": 1, "b": 1})
    assert backend.calls == [("load", "a@1"), ("load", "b@1")]


@both_backends
async def test_a_request_waits_for_room_until_a_lease_ends(tmp_path: Path) -> None:
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "ab", max_loaded=1))
    got = anyio.Event()

    async def second() -> None:
        async with manager.lease("b"):
            got.set()

    async with anyio.create_task_group() as tasks:
        async with manager.lease("a"):
            tasks.start_soon(second)
            await anyio.wait_all_tasks_blocked()
            assert not got.is_set()
        await got.wait()
    assert backend.loaded == ["b@1"]


@both_backends
async def test_steady_use_of_one_adapter_does_not_starve_another(tmp_path: Path) -> None:
    manager = AdapterManager(FakeBackend(), registry_of(tmp_path, "ab", max_loaded=1))
    served = anyio.Event()

    async def keep_using() -> None:
        while not served.is_set():
            async with manager.lease("a"):
                await checkpoint()

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(keep_using)
        await checkpoint()
        async with manager.lease("b"):
            served.set()


@both_backends
async def test_no_room_within_the_deadline_is_an_error_and_changes_nothing(
    tmp_path: Path,
) -> None:
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "ab", max_loaded=1), options=QUICK)
    async with manager.lease("a"):
        with pytest.raises(
            CapacityError, match=r"a@1 still in use by running requests after 0\.05"
        ):
            async with manager.lease("b"):
                pass
        async with manager.lease("a"):
            pass
    assert backend.loaded == ["a@1"]
    assert manager.get_stats()["leases"] == 0


@both_backends
async def test_more_adapters_than_slots_or_only_pinned_ones_is_an_error(tmp_path: Path) -> None:
    manager = AdapterManager(FakeBackend(), registry_of(tmp_path, "abc"))
    with pytest.raises(CapacityError, match="3 adapters does not fit max_loaded=2"):
        async with manager.lease({"a": 1, "b": 1, "c": 1}):
            pass
    await manager.load("a", pin=True)
    await manager.load("b", pin=True)
    with pytest.raises(CapacityError, match="pinned or needed: a@1, b@1"):
        async with manager.lease("c"):
            pass


@both_backends
async def test_bytes_are_a_limit_of_their_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backend = FakeBackend(bytes_each=100)
    options = ManagerOptions(max_loaded=10, max_bytes=250)
    manager = AdapterManager(backend, registry_of(tmp_path, "abcd"), options=options)
    for name in "abc":
        async with manager.lease(name):
            pass
    assert backend.loaded == ["b@1", "c@1"]
    assert manager.get_stats()["l1_utilization"] == 200 / 250
    assert "take 200 of 250 bytes" in caplog.text
    with pytest.raises(CapacityError, match="50 more than there is room for"):
        async with manager.lease({"a": 1, "b": 1, "c": 1}):
            pass
    assert backend.loaded == ["b@1", "c@1"]


@both_backends
async def test_cancelling_a_request_frees_its_lease(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.gate = anyio.Event()
    manager = AdapterManager(backend, registry_of(tmp_path, "a"))
    async with anyio.create_task_group() as tasks:

        async def request() -> None:
            async with manager.lease("a") as lease:
                await lease.generate("x")

        tasks.start_soon(request)
        await anyio.wait_all_tasks_blocked()
        assert backend.running
        assert manager.get_stats()["leases"] == 1
        tasks.cancel_scope.cancel()
    assert not backend.running
    assert manager.get_stats()["leases"] == 0
    await manager.unload("a")


@both_backends
async def test_cancelling_while_waiting_for_room_lets_the_victim_serve_again(
    tmp_path: Path,
) -> None:
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "ab", max_loaded=1))

    async def second() -> None:
        async with manager.lease("b"):
            raise AssertionError("there is no room")

    async with manager.lease("a"):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(second)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        async with manager.lease("a"):
            assert backend.loaded == ["a@1"]


@both_backends
async def test_a_lease_that_was_given_back_generates_no_more(tmp_path: Path) -> None:
    manager = AdapterManager(FakeBackend(), registry_of(tmp_path, "a"))
    async with manager.lease("a") as lease:
        assert (await lease.generate("x")).text == "x under (('a@1', 1.0),)"
        assert [piece async for piece in lease.stream("x")][:2] == ["x", "under"]
        assert (await lease.score("x", ["abc"]))[0].per_token == -3.0
    with pytest.raises(MixtureError, match="given back"):
        await lease.generate("x")


@both_backends
async def test_pieces_come_with_counts_which_plugins_hear(tmp_path: Path) -> None:
    class Counting(FakeBackend):
        """Its pieces are of two tokens each."""

        async def pieces(
            self, prompt: Prompt, *, mixture: Mixture = BASE, options: GenerationOptions = GREEDY
        ) -> AsyncGenerator[Piece | Generation, None]:
            assert set(mixture.adapters) <= set(self.loaded)
            yield Piece("a b", 2)
            yield Piece("c d", 2)
            yield Generation("a bc d", 5, 3, "stop", 7.0)

    heard: list[tuple[int, float]] = []

    class Hearing:
        @hookimpl
        def on_generation(self, tokens: int, generate_ms: float) -> None:
            heard.append((tokens, generate_ms))

    plugins = PluginManager()
    plugins.register(Hearing())
    manager = AdapterManager(Counting(), registry_of(tmp_path, "a"), plugins=plugins)
    async with manager.lease("a") as lease:
        *pieces, whole = [piece async for piece in lease.pieces("x")]
        assert [piece.tokens for piece in pieces if isinstance(piece, Piece)] == [2, 2]
        assert isinstance(whole, Generation)
        assert heard == [(5, 7.0)]
        assert [text async for text in lease.stream("x")] == ["a b", "c d"]
        assert heard == [(5, 7.0)] * 2
        left = lease.pieces("x")
        async for _ in left:
            break
    assert len(heard) == 2
    with pytest.raises(MixtureError, match="given back"):
        await anext(lease.pieces("x"))
    await left.aclose()


@both_backends
async def test_unknown_adapters_and_unable_backends_are_refused_in_words(tmp_path: Path) -> None:
    backend = FakeBackend()
    manager = AdapterManager(backend, registry_of(tmp_path, "ab"))
    with pytest.raises(AdapterNotFoundError, match="unknown adapter 'sqll'; known: a, b"):
        async with manager.lease("sqll"):
            pass
    with pytest.raises(MixtureError, match="named twice"):
        async with manager.lease({"a": 1, "a@1": 1}):
            pass
    backend.capabilities = frozenset()
    with pytest.raises(CapabilityError, match="cannot apply adapters"):
        async with manager.lease("a"):
            pass


@both_backends
async def test_many_adapters_compete_for_few_slots_without_loss_or_deadlock(
    tmp_path: Path,
) -> None:
    backend = FakeBackend()
    names = "abcdefghijkl"
    manager = AdapterManager(backend, registry_of(tmp_path, names, max_loaded=3))
    answers: list[str] = []

    async def session(number: int) -> None:
        for turn in range(10):
            first = names[(number * 7 + turn * 3) % 12]
            second = names[(number * 5 + turn) % 12]
            async with manager.lease({first: 1.0} | {second: 0.5}) as lease:
                answers.append((await lease.generate("x")).text)

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(session, number)
    assert len(answers) == 200
    assert len(backend.loaded) <= 3
    assert backend.most_loaded <= 5
    assert manager.get_stats()["leases"] == 0
