"""What an event says about its own routing, from metadata to receipt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from intrinsic.bus import MemoryBus
from intrinsic.card import AdapterCard
from intrinsic.errors import EventError
from intrinsic.events import MemoryEvent
from intrinsic.hookspecs import hookimpl
from intrinsic.receipt import Receipt
from intrinsic.routing import KeywordRouter
from intrinsic.routing.explanation import explain
from intrinsic.selection import RouteContext, Selection
from intrinsic.wiring import RouteWishes
from tests.bus.backends import both_backends
from tests.routing.given import GivenRouter, cards
from tests.wiring.test_routing_context import plugged, routed, wire

NEAR = {"q": {"a": 0.9, "b": 0.7, "c": 0.3}}


async def answer(bus: MemoryBus, **metadata: object) -> str:
    report = await bus.publish(MemoryEvent.from_text("q", metadata=metadata))
    assert isinstance(report.value, Receipt), report.errors
    return ",".join(one.adapter for one in report.value.selections)


@both_backends
async def test_an_event_says_how_many_how_sure_and_who_not(tmp_path: Path) -> None:
    async with MemoryBus() as bus:
        wire(bus, tmp_path, GivenRouter(NEAR, min_weight=0.0))
        assert await answer(bus) == "a,b"
        assert await answer(bus, top_k=1) == "a"
        assert await answer(bus, top_k=3, threshold=0.25) == "a,b,c"
        assert await answer(bus, top_k=2, threshold=0.25) == "a,b"
        assert await answer(bus, threshold=0.8) == "a"
        assert await answer(bus, threshold=0.95) == ""
        assert await answer(bus, exclude=["a"]) == "b"
        assert await answer(bus, exclude=("a@1", "b"), threshold=0.1) == "c"
        assert await answer(bus, top_k=None, threshold=None, exclude=None) == "a,b"


@both_backends
async def test_what_is_not_valid_is_an_error_and_routes_nothing(tmp_path: Path) -> None:
    router = GivenRouter(NEAR)
    async with MemoryBus() as bus:
        wire(bus, tmp_path, router)
        for metadata in ({"top_k": 0}, {"threshold": "high"}, {"exclude": "a"}):
            report = await bus.publish(MemoryEvent.from_text("q", metadata=metadata))
            (error,) = report.errors
            assert isinstance(error, EventError)
            assert next(iter(metadata)) in str(error)
    assert router.looked_at == []


@pytest.mark.parametrize(
    "metadata",
    [
        {"top_k": True},
        {"top_k": 1.5},
        {"top_k": 1001},
        {"threshold": -0.1},
        {"threshold": float("nan")},
        {"threshold": True},
        {"exclude": [1]},
        {"exclude": {"a": 1}},
        {"exclude": ["a"] * 1001},
    ],
)
def test_values_out_of_range_are_refused(metadata: dict[str, Any]) -> None:
    with pytest.raises(EventError, match=f"^{next(iter(metadata))} in an event's metadata is "):
        RouteWishes.of(metadata)


@both_backends
async def test_a_card_may_ask_for_more_than_the_request_and_not_for_less() -> None:
    router = GivenRouter(NEAR)

    async def fits(own: float | None, asked: float | None) -> bool:
        found = await router.route(
            "q", candidates=cards("b", threshold=own), context=RouteContext(threshold=asked)
        )
        return bool(found)

    assert await fits(None, None)
    assert not await fits(0.75, None)
    assert not await fits(0.75, 0.1)
    assert await fits(0.1, 0.65)
    assert not await fits(0.1, 0.75)


@both_backends
async def test_routers_of_another_kind_are_held_to_the_threshold_too() -> None:
    class Other:
        async def route(self, query: str, **rest: object) -> list[Selection]:
            return [Selection("a", 0.9), Selection("b", 0.6)]

    router: Any = Other()
    context = RouteContext(threshold=0.7)
    assert [one.adapter for one in await routed(plugged(router), "q")] == ["a", "b"]
    assert [one.adapter for one in await routed(plugged(router), "q", context=context)] == ["a"]


@both_backends
async def test_a_plugin_is_not_bound_by_the_threshold_but_by_what_is_excluded() -> None:
    class Adds:
        @hookimpl
        def adjust_selections(self, selections: list[Selection]) -> list[Selection]:
            return [*selections, Selection("c", 0.3)]

    router = plugged(GivenRouter(NEAR), Adds(), top_k=3)
    context = RouteContext(threshold=0.8)
    assert [one.adapter for one in await routed(router, "q", context=context)] == ["a", "c"]
    context = RouteContext(threshold=0.8, exclude=frozenset("c"))
    assert [one.adapter for one in await routed(router, "q", context=context)] == ["a"]


@both_backends
async def test_an_explanation_names_the_threshold_that_counted() -> None:
    router = KeywordRouter()
    tax, joke = (
        AdapterCard("tax", examples=("how is income taxed",)),
        AdapterCard("joke", examples=("tell me a joke",), threshold=0.999),
    )
    for threshold in (None, 0.9999):
        context = RouteContext(threshold=threshold)
        found = await explain(router, "zebra", candidates=(tax,), context=context)
        least = threshold or router.options.threshold
        assert found.candidates[0].outcome.startswith(f"below the threshold of {least:.0%}")
    found = await explain(router, "a joke", candidates=(joke,), context=RouteContext(threshold=0.1))
    assert found.candidates[0].outcome.startswith("below its threshold of 100%")
