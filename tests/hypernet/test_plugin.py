"""The hypernetwork in the wired system: it answers where no stored adapter fits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
import torch

from intrinsic.backends import GenerationOptions
from intrinsic.bus import MemoryBus
from intrinsic.events import InjectionChannel, MemoryEvent, MemoryVector
from intrinsic.hookspecs import hookimpl
from intrinsic.hypernet.check import Example
from intrinsic.hypernet.plugin import HypernetPlugin
from intrinsic.mixture import BASE
from intrinsic.plugins import PluginManager
from intrinsic.receipt import Receipt
from intrinsic.selection import RouteContext, Selection
from intrinsic.wiring import WiringOptions, setup_weight_interface
from tests.bus.backends import both_backends
from tests.hypernet.serving import (
    KNOWN,
    NOTHING,
    STRANGE,
    Words,
    bare,
    exact,
    expert_of,
    logits,
    manager_of,
    traces,
)
from tests.wiring.test_wiring import LetterPlugin, NoEmbedder, receipt_of

SHORT = GenerationOptions(max_new_tokens=6)


class Wired:
    """A bus over the tiny Llama with stored adapters `a` and `b`, and an expert as a plugin."""

    def __init__(self, folder: Path, bus: MemoryBus, *plugins: object, **options: Any) -> None:
        made = manager_of(folder)
        self.plugins = PluginManager.with_builtins()
        for plugin in (LetterPlugin(), *plugins):
            self.plugins.register(plugin)
        self.manager, self.router = setup_weight_interface(
            bus,
            made.backend,
            made.registry,
            NoEmbedder(),
            options=WiringOptions(router="letter"),
            plugins=self.plugins,
        )
        self.bus = bus
        self.expert = expert_of(self.manager, **options)
        self.plugins.register(HypernetPlugin(self.expert), name="hypernet")

    async def ask(self, query: str) -> tuple[Receipt, torch.Tensor]:
        """The receipt of a query, and the logits under its lease."""
        event = MemoryEvent.from_text(query)
        receipt = await receipt_of(self.bus, event)
        async with self.manager.lease(event) as lease:
            assert lease.mixture == receipt.mixture
            return receipt, logits(self.manager, lease.mixture)


@both_backends
async def test_it_answers_where_no_stored_adapter_fits(tmp_path: Path) -> None:
    async with MemoryBus() as bus:
        wired = Wired(tmp_path, bus)
        receipt, found = await wired.ask(KNOWN)
        (selection,) = receipt.selections
        assert receipt.mixture.adapters == (selection.adapter,) == wired.expert.adapters
        assert selection.reason.startswith("generated: ")
        assert receipt.skipped == ()
        reference = exact(wired.manager, wired.expert, {KNOWN: 1.0})
        torch.testing.assert_close(found.double(), reference, atol=1e-4, rtol=1e-4)
        stored, _ = await wired.ask(f"a {KNOWN}")
        assert stored.mixture.adapters == ("a@1",)
        _, after = await wired.ask(STRANGE)
        assert torch.equal(after, bare())
        await wired.expert.close()
        assert traces(wired.manager) == NOTHING


@both_backends
async def test_told_to_prefer_it_answers_in_place_of_stored_ones(tmp_path: Path) -> None:
    async with MemoryBus() as bus:
        wired = Wired(tmp_path, bus, prefer=True, weight=0.5)
        receipt, found = await wired.ask(f"a {KNOWN}")
        assert receipt.mixture.entries == ((wired.expert.adapters[0], 0.5),)
        reference = exact(wired.manager, wired.expert, {f"a {KNOWN}": 0.5})
        torch.testing.assert_close(found.double(), reference, atol=1e-4, rtol=1e-4)
        refused, _ = await wired.ask(f"a {STRANGE}")
        assert refused.mixture.adapters == ("a@1",)
        assert [one.what for one in refused.skipped] == ["hypernet"]


@both_backends
@pytest.mark.parametrize("gate", ["similarity", "size", "size, by the options", "example"])
async def test_refused_is_the_base_bit_for_bit_and_the_receipt_says_why(
    tmp_path: Path, gate: str
) -> None:
    def spoilt(query: str, context: RouteContext) -> Example:
        return Example("hello", worst)

    by_gate: dict[str, dict[str, Any]] = {
        "similarity": {},
        "size": {"bound": 1e-6},
        "size, by the options": {"max_relative_norm": 1e-6},
        "example": {"example_of": spoilt},
    }
    query = STRANGE if gate == "similarity" else KNOWN
    async with MemoryBus() as bus:
        wired = Wired(tmp_path, bus, **by_gate[gate])
        worst = await least_likely(wired)
        receipt, found = await wired.ask(query)
        assert receipt.mixture == BASE
        assert torch.equal(found, bare())
        (skipped,) = receipt.skipped
        assert skipped.what == "hypernet"
        assert {
            "similarity": "below 0.400",
            "size": "of their size, above 1e-06",
            "size, by the options": "of their size, above 1e-06",
            "example": "it must fall by more than",
        }[gate] in skipped.why
        assert traces(wired.manager) == NOTHING


async def least_likely(wired: Wired) -> str:
    """The letter whose loss the weights for `KNOWN` raise most."""
    found = await expert_of(wired.manager).select(KNOWN)
    assert isinstance(found, Selection)
    letters = "abcdefghij"
    scores = []
    for what in (BASE, found):
        async with wired.manager.lease(what) as lease:
            scores.append([one.per_token for one in await lease.score("hello", letters)])
    await wired.manager.retire(found.adapter)
    path = wired.manager.registry.remove_adapter(found.adapter).path
    wired.manager.backend.forget_lora_adapter(str(path))
    changes = [after - before for before, after in zip(*scores, strict=True)]
    return letters[changes.index(min(changes))]


@both_backends
async def test_an_example_that_is_better_with_the_weights_lets_them_in(tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []

    def example_of(query: str, context: RouteContext) -> Example | None:
        asked.append((query, context.memories[0].memory_id))
        return None if "sort" in query else Example("hello", best)

    async with MemoryBus() as bus:
        wired = Wired(tmp_path, bus, example_of=example_of, margin=0.0, margin_share=0.0)
        best = await most_likely(wired)
        memory = MemoryVector("m1", KNOWN)
        event = MemoryEvent(channel=InjectionChannel.DYNAMIC_LORA, vectors=(memory,))
        assert (await receipt_of(bus, event)).mixture.adapters == wired.expert.adapters
        assert asked == [(KNOWN, "m1")]
        unchecked, _ = await wired.ask("please sort the word")
        assert len(unchecked.mixture.adapters) == 1


async def most_likely(wired: Wired) -> str:
    """The letter whose loss the weights for `KNOWN` lower most."""
    found = await wired.expert.select(KNOWN)
    assert isinstance(found, Selection)
    letters = "abcdefghij"
    scores = []
    for what in (BASE, found):
        async with wired.manager.lease(what) as lease:
            scores.append([one.per_token for one in await lease.score("hello", letters)])
    changes = [after - before for before, after in zip(*scores, strict=True)]
    return letters[changes.index(max(changes))]


@both_backends
async def test_shadow_mode_leaves_no_trace_and_says_what_would_be(tmp_path: Path) -> None:
    async with MemoryBus() as bus:
        wired = Wired(tmp_path, bus, prefer=True)
        bus.set_shadow(True)
        for query, said in ((KNOWN, "it would generate: its mean"), (STRANGE, "would refuse")):
            receipt, found = await wired.ask(query)
            assert receipt.shadow
            assert torch.equal(found, bare())
            (skipped,) = receipt.skipped
            assert said in skipped.why
        assert wired.expert.adapters == ()
        assert wired.expert.cache.statistics().misses == 0
        assert traces(wired.manager) == NOTHING
        bus.set_shadow(False)
        assert (await wired.ask(KNOWN))[0].mixture


@both_backends
async def test_what_fails_costs_the_adapter_and_not_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with MemoryBus() as bus:
        wired = Wired(tmp_path, bus)
        with monkeypatch.context() as broken:
            network = wired.expert.generator.network
            broken.setattr(network.body, "forward", raising(ValueError("the network broke")))
            receipt, found = await wired.ask(KNOWN)
        assert receipt.mixture == BASE
        assert torch.equal(found, bare())
        assert [(s.what, s.why) for s in receipt.skipped] == [
            ("hypernet", "ValueError: the network broke")
        ]
        receipt, found = await wired.ask("unreadable")
        assert torch.equal(found, bare())
        assert receipt.skipped[0].why == "RuntimeError: the encoder is told to fail"
        assert (await wired.ask(KNOWN))[0].mixture  # and it works again


def raising(error: Exception) -> Callable[..., Any]:
    """A function that fails."""

    def fail(*args: object) -> None:
        raise error

    return fail


@both_backends
async def test_a_query_that_takes_too_long_is_cut_off_and_the_receipt_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(query: str, example: object) -> None:
        await anyio.sleep_forever()

    async with MemoryBus() as bus:
        wired = Wired(tmp_path, bus)
        wired.plugins.hook_timeout_s = 0.05
        with monkeypatch.context() as slow:
            slow.setattr(wired.expert, "select", hang)
            receipt, found = await wired.ask(KNOWN)
        assert torch.equal(found, bare())
        assert [(s.what, s.why) for s in receipt.skipped] == [
            ("hypernet", "cut off before it was done")
        ]
        wired.plugins.hook_timeout_s = 5.0
        assert (await wired.ask(KNOWN))[0].mixture


@both_backends
async def test_it_speaks_last_and_keeps_out_where_it_is_excluded(tmp_path: Path) -> None:
    class Adds:
        @hookimpl
        def adjust_selections(self, query: str) -> list[Selection] | None:
            return [Selection("b")] if "plugin" in query else None

    async with MemoryBus() as bus:
        wired = Wired(tmp_path, bus, Adds())
        receipt, _ = await wired.ask(f"plugin {KNOWN}")
        assert receipt.mixture.adapters == ("b@1",)
        cards = [entry.card for entry in wired.manager.registry.list_adapters()]
        assert isinstance(wired.expert.encoder, Words)
        assert wired.expert.encoder.asked == []
        for excluded, chosen in ((frozenset({"hypernet"}), 0), (frozenset({"a"}), 1)):
            context = RouteContext(exclude=excluded)
            found = await wired.router.route(KNOWN, candidates=cards, context=context)
            assert len(found) == len(wired.expert.encoder.asked) == chosen
        assert len(wired.expert.adapters) == 1


@both_backends
async def test_routing_is_never_offered_what_was_generated(tmp_path: Path) -> None:
    async with MemoryBus() as bus:
        wired = Wired(tmp_path, bus)
        await wired.ask(KNOWN)
        cards = [entry.card.key for entry in wired.manager.registry.list_adapters()]
        assert cards == ["a@1", "b@1"]
        assert wired.expert.adapters[0] in wired.manager.registry.loaded_adapters
        assert wired.expert.adapters[0] in wired.manager.get_near_adapters()


@both_backends
async def test_requests_at_once_each_have_their_own(tmp_path: Path) -> None:
    queries = ["reverse the word", "double the word", f"a {STRANGE}", STRANGE]
    texts: dict[str, list[str]] = {query: [] for query in queries}
    async with MemoryBus() as bus:
        wired = Wired(tmp_path, bus, size=0.2)

        async def answer(query: str) -> None:
            event = MemoryEvent.from_text(query)
            await bus.publish(event)
            async with wired.manager.lease(event) as lease:
                texts[query].append((await lease.generate("hello", SHORT)).text)

        for query in queries:
            await answer(query)
        for _ in range(2):
            async with anyio.create_task_group() as group:
                for query in queries:
                    group.start_soon(answer, query)
        assert all(len(set(found)) == 1 for found in texts.values()), texts
        assert len({found[0] for found in texts.values()}) == 4


@both_backends
async def test_cancelled_events_leave_a_system_that_answers(tmp_path: Path) -> None:
    async with MemoryBus() as bus:
        wired = Wired(tmp_path, bus, threshold=-2.0, max_cached=2)
        for number in range(20):
            event = MemoryEvent.from_text(f"query {number}")
            async with anyio.create_task_group() as group:
                group.start_soon(bus.publish, event)
                for _ in range(3 * (number % 6)):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
        receipt, _ = await wired.ask("query now")
        assert receipt.mixture
        await wired.expert.close()
        assert traces(wired.manager) == NOTHING
