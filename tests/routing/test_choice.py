"""Who is chosen, with which weight: thresholds, groups, temperature; no more than needed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intrinsic.card import AdapterCard
from intrinsic.errors import ConfigError
from intrinsic.routing import RouterOptions
from intrinsic.routing.choice import raised, shares
from intrinsic.selection import RouteContext
from tests.bus.backends import both_backends
from tests.routing.given import GivenRouter, cards

NAMES = "abcdefghijklmnopqrstuvwxyz"


async def chosen(
    confidences: str, candidates: tuple[AdapterCard, ...], top_k: int = 2, **options: Any
) -> dict[str, object]:
    """Confidences of the chosen; `confidences` are tenths, of a, b, c and so on."""
    given = {name: int(tenth) / 10 for name, tenth in zip(NAMES, confidences, strict=False)}
    router = GivenRouter({"q": given}, **options)
    found = await router.route("q", candidates=candidates, top_k=top_k)
    assert not found or sum(one.weight for one in found) == pytest.approx(1.0)
    return {one.adapter: pytest.approx(one.confidence) for one in found}


@both_backends
async def test_a_card_has_its_own_threshold() -> None:
    a, b, c = cards("abc")
    strict = dataclasses.replace(a, threshold=0.95)
    lenient = dataclasses.replace(c, threshold=0.1)
    assert await chosen("964", (a, b, c)) == {"a": 0.9, "b": 0.6}
    assert await chosen("4", (a,)) == {}
    assert await chosen("4", (dataclasses.replace(a, threshold=0.4),)) == {"a": 0.4}
    assert await chosen("964", (a, b, lenient), top_k=3, min_weight=0.0) == {
        "a": 0.9,
        "b": 0.6,
        "c": 0.4,
    }
    assert await chosen("9", (strict,)) == {}
    assert await chosen("9", (dataclasses.replace(a, threshold=1.0),)) == {}


@both_backends
async def test_who_was_kept_out_by_its_threshold_may_still_be_the_right_one() -> None:
    a, b, c = cards("abc")
    strict = dataclasses.replace(a, threshold=0.95)
    assert await chosen("96", (strict, b)) == {}
    assert await chosen("66", (strict, b)) == {}
    lenient = dataclasses.replace(b, threshold=0.2)
    assert await chosen("66", (strict, lenient)) == {"b": 0.6 * 0.4}
    assert await chosen("44", (a, lenient)) == {"b": 0.4 * 0.6}
    last = dataclasses.replace(c, threshold=0.05)
    assert await chosen("554", (strict, dataclasses.replace(b, threshold=0.9), last)) == {
        "c": pytest.approx(0.4 * 0.5 * 0.5)
    }


@both_backends
async def test_of_a_group_only_the_best_is_chosen() -> None:
    a, b, c = cards("ab", group="language") + cards("c")
    assert await chosen("987", (a, b, c)) == {"a": 0.9, "c": 0.7}
    assert await chosen("987", (a, b, c), top_k=3) == {"a": 0.9, "c": 0.7}
    assert await chosen("987", (b, a, c), top_k=1) == {"a": 0.9}
    must = dataclasses.replace(b, must=("q",))
    assert await chosen("987", (a, must, c)) == {"b": 1.0, "c": 0.7}
    both = tuple(dataclasses.replace(card, must=("q",)) for card in (a, b))
    assert await chosen("98", both) == {"a": 1.0}
    strict = dataclasses.replace(a, threshold=0.99)
    assert await chosen("44", (strict, b), threshold=0.2) == {"b": 0.4 * 0.6}


@both_backends
async def test_no_more_is_looked_at_than_needed() -> None:
    every = cards(NAMES)
    grouped = cards(NAMES[:-1], group="one") + cards(NAMES[-1])
    given = {"q": dict.fromkeys(NAMES, 0.9)}
    for candidates, top_k, expected, looked_at in (
        (every, 1, "a", [1]),
        (every, 3, "abc", [3]),
        (grouped, 1, "a", [1]),
        (grouped, 2, "az", [2, 8, 32]),
    ):
        router = GivenRouter(given, min_weight=0.0)
        found = await router.route("q", candidates=candidates, top_k=top_k)
        assert "".join(one.adapter for one in found) == expected
        assert router.looked_at == looked_at
    router = GivenRouter(given)
    assert len(await router.rank("q", candidates=every, first=2)) == 2
    assert router.looked_at == [2]
    few = GivenRouter({"q": {"a": 0.9, "b": 0.3}})
    assert len(await few.route("q", candidates=grouped, top_k=2)) == 1
    assert few.looked_at == [2]


@both_backends
async def test_the_ranking_is_whole_and_what_was_given_twice_comes_twice() -> None:
    a, b, c = cards("abc")
    never = dataclasses.replace(c, never=("q",))
    router = GivenRouter({"q": {"a": 0.5, "b": 0.9, "c": 0.99}})
    ranked = await router.rank("q", candidates=(a, b, never, a))
    assert [one.adapter for one in ranked] == ["b", "a", "a", "c"]
    assert [one.confidence for one in ranked] == [0.9, 0.5, 0.5, 0.0]
    for first in range(5):
        assert await router.rank("q", candidates=(a, b, never, a), first=first) == ranked[:first]
    context = RouteContext(exclude=frozenset({"b", "c@1"}))
    left = await router.rank("q", candidates=(a, b, never), context=context)
    assert [one.adapter for one in left] == ["a"]


@both_backends
async def test_many_selections_are_made_off_the_loop_and_are_the_same() -> None:
    many = tuple(AdapterCard(f"adapter{n}") for n in range(600))
    router = GivenRouter({"q": {f"adapter{n}": n / 600 for n in range(600)}})
    ranked = await router.rank("q", candidates=many)
    assert [one.adapter for one in ranked[:2]] == ["adapter599", "adapter598"]
    assert await router.rank("q", candidates=many, first=2) == ranked[:2]


def shares_at(temperature: float, *confidences: float, min_weight: float = 0.0) -> list[float]:
    options = RouterOptions(weight_temperature=temperature, min_weight=min_weight)
    return shares(confidences, options)


def test_the_weights_are_a_softmax_of_log_probabilities() -> None:
    assert shares_at(1.0, 0.9, 0.6) == pytest.approx([0.6, 0.4])
    assert shares_at(0.5, 0.9, 0.6) == pytest.approx([0.81 / 1.17, 0.36 / 1.17])
    assert shares_at(1e-3, 0.9, 0.6) == [1.0]
    assert shares_at(1e-320, 0.9, 0.6) == [1.0]
    assert shares_at(1e6, 1.0, 0.6, 0.5) == pytest.approx([1 / 3] * 3, abs=1e-5)
    for temperature in (1e-320, 1.0, 1e308):
        assert shares_at(temperature, 0.7) == [1.0]
        assert shares_at(temperature, 1.0, 1.0) == [0.5, 0.5]
        assert shares_at(temperature, 0.0, 0.0) == [0.5, 0.5]
        assert shares_at(temperature) == []


def test_the_least_goes_without_until_all_have_the_least_weight() -> None:
    assert shares_at(1.0, 0.9, 0.2, 0.2, min_weight=0.2) == [1.0]
    assert shares_at(1.0, 0.9, 0.6, 0.2, min_weight=0.2) == pytest.approx([0.6, 0.4])
    assert shares_at(0.2, 0.9, 0.6, min_weight=0.2) == [1.0]


@given(
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=6),
    st.floats(0.01, 100.0),
    st.floats(0.0, 1.0),
)
def test_weights_are_shares_in_the_order_of_the_confidences(
    confidences: list[float], temperature: float, min_weight: float
) -> None:
    confidences.sort(reverse=True)
    found = shares_at(temperature, *confidences, min_weight=min_weight)
    assert sum(found) == pytest.approx(1.0)
    assert found == sorted(found, reverse=True)
    assert 1 <= len(found) <= len(confidences)
    assert all(share > 0.0 and share >= min_weight - 1e-9 for share in found)


@given(st.floats(0.0, 1.0), st.floats(0.0, 800.0))
def test_a_raised_probability_is_one(confidence: float, bonus: float) -> None:
    assert confidence - 1e-12 <= raised(confidence, bonus) <= 1.0
    assert raised(0.5, 1.0) == pytest.approx(0.7310585786)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weight_temperature", 0.0),
        ("weight_temperature", float("inf")),
        ("memory_share", 1.5),
        ("stickiness", -1.0),
        ("stickiness", float("nan")),
        ("session_s", 0.0),
        ("cached_sessions", 0),
    ],
)
def test_options_are_checked(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name} is {value}; it must"):
        RouterOptions(**{name: value})  # type: ignore[arg-type]
