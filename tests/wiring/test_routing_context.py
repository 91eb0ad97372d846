"""Memories, sessions and plugins around a real router, from event to receipt."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from intrinsic.bus import MemoryBus
from intrinsic.card import AdapterCard
from intrinsic.events import EventContext, InjectionChannel, MemoryEvent, MemoryVector
from intrinsic.hookspecs import hookimpl
from intrinsic.plugins import PluginManager
from intrinsic.receipt import Receipt
from intrinsic.routing import EmbeddingRouter, RouterOptions
from intrinsic.selection import NO_CONTEXT, RouteContext, Selection
from intrinsic.wiring import PluginRouter, WiringOptions, setup_weight_interface
from tests.bus.backends import both_backends
from tests.manager.fakes import FakeBackend, registry_of
from tests.routing.fakes import BagEmbedder
from tests.routing.given import GivenRouter, cards

NEAR = {"and a": {"a": 0.9}, "and b": {"b": 0.6, "a": 0.59}, "and c": {"c": 0.95}}
S = RouteContext(session_id="s")


class Adjuster:
    """Adjusts as the function it is given says."""

    def __init__(self, adjust: Any) -> None:
        self.adjust = adjust

    @hookimpl
    def adjust_selections(self, selections: Sequence[Selection]) -> Any:
        return self.adjust(list(selections))


class Decider:
    """Answers with `b` instead of the router where the query asks for it."""

    @hookimpl
    def select_adapters(self, query: str) -> list[Selection] | None:
        return [Selection("b", reason="asked for")] if query == "give me b" else None


def plugged(router: GivenRouter, *plugins: object, top_k: int = 2) -> PluginRouter:
    manager = PluginManager()
    for number, plugin in enumerate(plugins):
        manager.register(plugin, name=f"p{number}")
    return PluginRouter(router, manager, top_k=top_k)


async def routed(
    router: PluginRouter,
    query: str,
    candidates: Sequence[AdapterCard] = cards("abc"),
    context: RouteContext = NO_CONTEXT,
) -> list[Selection]:
    return await router.route(query, candidates=candidates, context=context)


def wire(bus: MemoryBus, folder: Path, router: Any) -> None:
    class Plugin:
        @hookimpl
        def register_routers(self) -> dict[str, Any]:
            return {"test": lambda embedder: router}

    plugins = PluginManager.with_builtins()
    plugins.register(Plugin())
    setup_weight_interface(
        bus,
        FakeBackend(),
        registry_of(folder, "abc", max_loaded=3),
        BagEmbedder(),
        options=WiringOptions(router="test"),
        plugins=plugins,
    )


async def answer(bus: MemoryBus, event: MemoryEvent) -> str:
    report = await bus.publish(event)
    assert isinstance(report.value, Receipt)
    return ",".join(one.adapter for one in report.value.selections)


@both_backends
async def test_memories_of_an_event_count_by_weight_not_by_length(tmp_path: Path) -> None:
    async with MemoryBus() as bus:
        wire(bus, tmp_path, EmbeddingRouter(BagEmbedder(), options=RouterOptions(threshold=0.0)))
        for weights, expected in (((0.9, 0.1), "a"), ((0.1, 0.9), "b")):
            vectors = tuple(
                MemoryVector(text[0], text, relevance_score=1.0, injection_strength=strength)
                for text, strength in zip(("aa", "bb bb bb bb bb bb"), weights, strict=True)
            )
            event = MemoryEvent(InjectionChannel.DYNAMIC_LORA, vectors)
            assert (await answer(bus, event)).split(",")[0] == expected


@both_backends
async def test_a_conversation_over_the_bus_and_shadow_events_do_not_count(tmp_path: Path) -> None:
    async with MemoryBus() as bus:
        wire(bus, tmp_path, GivenRouter(NEAR))
        shadow = {"shadow": True}
        assert await answer(bus, MemoryEvent.from_text("and b", session_id="s")) == "b,a"
        event = MemoryEvent.from_text("and a", session_id="s", metadata=shadow)
        assert await answer(bus, event) == "a"
        assert await answer(bus, MemoryEvent.from_text("and b", session_id="s")) == "b,a"
        assert await answer(bus, MemoryEvent.from_text("and a", session_id="s")) == "a"
        assert await answer(bus, MemoryEvent.from_text("and b", session_id="s")) == "a,b"
        assert await answer(bus, MemoryEvent.from_text("and b", session_id="t")) == "b,a"
        event = MemoryEvent(InjectionChannel.DYNAMIC_LORA, context=EventContext(session_id="s"))
        assert await answer(bus, event) == ""


@both_backends
async def test_what_a_plugin_changed_stands_in_the_reason() -> None:
    def adjust(selections: list[Selection]) -> list[Selection]:
        first, *_ = selections
        return [
            dataclasses.replace(first, weight=0.5),
            Selection("c", 0.5, 0.25),
            Selection("x", 0.5, 0.25, "a plugin's own words"),
        ]

    router = plugged(GivenRouter(NEAR), Adjuster(adjust), top_k=3)
    a, c, x = await routed(router, "and a")
    assert a == Selection("a", 0.9, 0.5, "given; changed by plugin p0: weight 1.00 to 0.50")
    assert c == Selection("c", 0.5, 0.25, "added by plugin p0")
    assert x.reason == "a plugin's own words"


@both_backends
async def test_reasons_of_rules_and_sessions_come_through_and_unchanged_is_unchanged() -> None:
    a, b, c = cards("abc")
    ruled = (a, dataclasses.replace(b, must=("and a",)), c)
    inner = GivenRouter(NEAR)
    router = plugged(inner, Adjuster(lambda selections: selections[::-1]))
    alone = await GivenRouter(NEAR).route("and a", candidates=ruled, top_k=2)
    assert await routed(router, "and a", ruled) == alone[::-1]
    assert alone[0].reason == 'gets every text with "and a" (must)'
    drop = plugged(GivenRouter(NEAR), Adjuster(lambda s: [Selection("b", 0.7, 1.0)]))
    (first,) = await routed(drop, "and a", ruled)
    assert first.reason == (
        'gets every text with "and a" (must); '
        "changed by plugin p0: confidence 1.00 to 0.70, weight 0.53 to 1.00"
    )


@both_backends
async def test_the_sound_answers_of_a_chain_stand(caplog: pytest.LogCaptureFixture) -> None:
    half = Adjuster(lambda selections: [dataclasses.replace(s, weight=0.5) for s in selections])
    router = plugged(GivenRouter(NEAR), Adjuster(lambda s: None), half, Adjuster(lambda s: None))
    (chosen,) = await routed(router, "and a")
    assert chosen.weight == 0.5
    assert "changed by plugin p1: " in chosen.reason
    router = plugged(GivenRouter(NEAR), Adjuster(lambda s: "nonsense"))
    assert await routed(router, "and a") == [Selection("a", 0.9, 1.0, "given")]
    assert "answered 'nonsense', no list of Selection" in caplog.text


@both_backends
async def test_no_plugin_brings_back_what_the_context_excludes() -> None:
    add = Adjuster(lambda selections: [*selections, Selection("b@1"), Selection("b")])
    context = RouteContext(exclude=frozenset({"b"}))
    router = plugged(GivenRouter(NEAR), add, Decider())
    assert [one.adapter for one in await routed(router, "and a", context=context)] == ["a"]
    assert await routed(router, "give me b", context=context) == []
    assert [one.adapter for one in await routed(router, "and a")] == ["a", "b@1"]


@both_backends
async def test_a_session_stays_with_who_answered_in_the_end() -> None:
    refuse_c = Adjuster(lambda selections: [s for s in selections if s.adapter != "c"])
    router = plugged(GivenRouter({**NEAR, "give me b": {}}), refuse_c, Decider(), top_k=1)

    async def names(*queries: str, context: RouteContext = S) -> str:
        found = [await routed(router, query, context=context) for query in queries]
        return "".join(one[0].adapter if one else "-" for one in found)

    assert await names("and a", "and c", "and b") == "a-a"
    assert await names("give me b", "and b") == "bb"
    shadow = dataclasses.replace(S, trial=True)
    assert await names("and a", "and b") == "aa"
    assert await names("give me b", context=shadow) == "b"
    assert await names("and b") == "a"
