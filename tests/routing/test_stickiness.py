"""A conversation stays with its adapter while that is near, and leaves it when the subject does."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Sequence
from typing import Any, ClassVar

import anyio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intrinsic.routing import HybridRouter, RouterOptions, Vectors
from intrinsic.routing.choice import NEAR as LOOKED_AT
from intrinsic.routing.choice import raised
from intrinsic.routing.stickiness import KEPT_PER_REQUEST, UNCONNECTED, Sessions, follows_up
from intrinsic.selection import RouteContext, Selection
from tests.bus.backends import both_backends
from tests.routing.fakes import CARDS, BagEmbedder, Clock
from tests.routing.given import GivenRouter, cards

S = RouteContext(session_id="s")
NEAR = {"and a": {"a": 0.9}, "and b": {"b": 0.6, "a": 0.59}, "and c": {"c": 0.95, "a": 0.4}}
FAINT = {"and a": {"a": 0.9}, "and then": {"a": 0.2}, "and not": {"a": 0.01}}


def sticky(given: dict[str, dict[str, float]], **options: Any) -> tuple[GivenRouter, Clock]:
    router = GivenRouter(given, **options)
    clock = Clock()
    router.sessions = Sessions(router.options, clock=clock)
    return router, clock


async def answers(router: GivenRouter, *queries: str, context: RouteContext = S) -> str:
    names = ""
    for query in queries:
        chosen = await router.route(query, candidates=cards("abc"), context=context)
        names += chosen[0].adapter if chosen else "-"
    return names


@both_backends
async def test_of_two_near_candidates_the_one_that_answered_stays() -> None:
    router, _ = sticky(NEAR)
    assert await answers(router, "and b", context=RouteContext()) == "b"
    assert await answers(router, "and b", "and a", "and b") == "baa"
    (kept,) = await router.route("and b", candidates=cards("abc"), context=S)
    assert kept.confidence == pytest.approx(raised(0.59, 2.5 * 0.8))
    assert kept.reason == "given; answered last in this session (+2.00 log-odds)"
    off, _ = sticky(NEAR, stickiness=0.0)
    assert await answers(off, "and a", "and b") == "ab"


@both_backends
async def test_a_clear_change_of_subject_changes_the_adapter_at_once() -> None:
    router, _ = sticky(NEAR)
    assert await answers(router, "and a", "and c", "and a", "and c") == "acac"


@both_backends
async def test_what_falls_a_little_short_is_kept_and_what_is_far_off_is_not() -> None:
    router, _ = sticky(FAINT)
    assert await answers(router, "and then", "and a", "and then", "and not") == "-aa-"


@both_backends
async def test_the_bonus_wears_off_with_requests_and_comes_back_when_earned() -> None:
    router, _ = sticky(FAINT)
    assert await answers(router, "and a", *["and then"] * 6) == "aaaa---"
    assert await answers(router, "and a", "and then") == "aa"
    router, _ = sticky(FAINT)
    assert await answers(router, "and a", *["and not"] * 3, "and then") == "a----"


@both_backends
async def test_the_bonus_wears_off_with_time() -> None:
    for seconds, expected in ((0.0, "a"), (50.0, "-"), (100.0, "-"), (1e9, "-")):
        router, clock = sticky(FAINT, session_s=100.0)
        await answers(router, "and a")
        clock.now_s = seconds
        assert await answers(router, "and then") == expected


@both_backends
async def test_a_text_that_does_not_point_back_has_less() -> None:
    given = {"and a": {"a": 0.9}, "and then": {"a": 0.2}, "weather": {"a": 0.2}}
    router, _ = sticky(given)
    assert await answers(router, "and a", "weather", "and then") == "a-a"


@both_backends
async def test_sessions_never_touch_one_another_and_no_session_remembers_nothing() -> None:
    router, _ = sticky(NEAR)
    other = RouteContext(session_id="other")
    assert await answers(router, "and a") == "a"
    assert await answers(router, "and b", context=other) == "b"
    assert await answers(router, "and b", context=RouteContext(request_id="s")) == "b"
    assert await answers(router, "and b") == "a"
    assert len(router.sessions) == 2


@both_backends
async def test_ranking_and_trials_leave_no_trace() -> None:
    router, _ = sticky(NEAR)
    trial = dataclasses.replace(S, trial=True)
    assert await answers(router, "and a", context=trial) == "a"
    await router.rank("and a", candidates=cards("abc"), context=S)
    assert len(router.sessions) == 0
    assert await answers(router, "and a") == "a"
    for _ in range(20):
        ranked = await router.rank("and b", candidates=cards("abc"), context=S)
        assert [one.adapter for one in ranked] == ["a", "b", "c"]
        assert await answers(router, "and c", context=trial) == "c"
    await router.rank("and b", candidates=cards("bc"), context=S)
    assert await answers(router, "and b") == "a"


@both_backends
async def test_a_removed_adapter_is_forgotten() -> None:
    router, _ = sticky(NEAR)
    await answers(router, "and a")
    (chosen,) = await router.route("and b", candidates=cards("bc"), context=S)
    assert chosen.adapter == "b"
    router, _ = sticky(FAINT)
    await answers(router, "and a")
    assert await router.route("and then", candidates=cards("bc"), context=S) == []
    assert await answers(router, "and then") == "-"
    await answers(router, "and a")
    newer = [dataclasses.replace(card, version="2") for card in cards("abc")]
    assert await router.route("and then", candidates=newer, context=S) == []


@both_backends
async def test_no_rule_and_no_exclusion_is_overridden() -> None:
    router, _ = sticky(NEAR)
    await answers(router, "and a")
    a, b, c = cards("abc")
    for candidates in (
        (dataclasses.replace(a, never=("and b",)), b, c),
        (a, dataclasses.replace(b, must=("and b",)), c),
        (dataclasses.replace(a, threshold=0.99), b, c),
    ):
        trial = dataclasses.replace(S, trial=True)
        (chosen,) = await router.route("and b", candidates=candidates, context=trial)
        assert chosen.adapter == "b"
    context = dataclasses.replace(S, exclude=frozenset({"a"}))
    assert await answers(router, "and b", context=context) == "b"
    assert await answers(router, "and a", "and b") == "aa"


@both_backends
async def test_only_the_nearest_are_looked_at() -> None:
    names = "abcdefghijklmnopqrstuvwxyz"
    given = {"and a": {"a": 0.9}, "and z": {n: 0.4 - at / 1e3 for at, n in enumerate(names[::-1])}}
    router, _ = sticky(given)
    for query in ("and a", "and z"):
        router.looked_at.clear()
        await router.route(query, candidates=cards(names), context=S)
    assert router.looked_at == [LOOKED_AT]
    assert (await router.route("and z", candidates=cards(names), context=S)) == []


@given(
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=5),
    st.integers(0, 4),
    st.floats(0.0, 5.0),
    st.floats(0.01, 0.99),
)
def test_the_bonus_lifts_by_no_more_and_never_costs_an_answer(
    confidences: list[float], last: int, bonus: float, threshold: float
) -> None:
    names = "abcde"[: len(confidences)]
    given = dict(zip(names, sorted(confidences, reverse=True), strict=True))
    last_name = names[last % len(names)]
    router, _ = sticky({"and": given}, stickiness=bonus, threshold=threshold)
    router.sessions.answered("s", f"{last_name}@1")

    async def main() -> tuple[list[Selection], list[Selection]]:
        plain = await router.route("and", candidates=cards(names))
        return plain, await router.route("and", candidates=cards(names), context=S)

    plain, kept = anyio.run(main)
    assert bool(kept) >= bool(plain)
    if [one.adapter for one in kept] != [one.adapter for one in plain]:
        assert kept[0].adapter == last_name
        own = given[last_name]
        assert math.log(own / (1 - own)) + bonus >= math.log(threshold / (1 - threshold)) - 1e-6


@both_backends
async def test_who_answered_in_the_end_is_what_counts() -> None:
    router, _ = sticky(NEAR)
    candidates = cards("abc")
    await answers(router, "and a", "and c")
    router.answered([], candidates=candidates, context=S, routed=True)
    assert await answers(router, "and b") == "a"
    router.answered([Selection("b@1")], candidates=candidates, context=S, routed=True)
    assert await answers(router, "and b", "and a") == "ba"
    router.answered([Selection("c")], candidates=candidates, context=S, routed=False)
    assert router.sessions.adapter("s") == "c@1"
    router.answered([Selection("unknown")], candidates=candidates, context=S, routed=True)
    assert router.sessions.adapter("s") == "a@1"
    trial = dataclasses.replace(S, trial=True)
    for context in (trial, RouteContext()):
        router.answered([Selection("b")], candidates=candidates, context=context, routed=True)
    assert router.sessions.adapter("s") == "a@1"


def test_what_was_corrected_to_the_base_model_was_no_answer() -> None:
    sessions = Sessions(RouterOptions())
    sessions.answered("s", "a@1")
    sessions.corrected("s", None)
    assert sessions.last("s", "and") is None
    assert len(sessions) == 0


def test_the_number_of_sessions_is_bounded_and_the_latest_stay() -> None:
    sessions = Sessions(RouterOptions(cached_sessions=3))
    for name in "abcadae":
        sessions.answered(name, "x@1")
    assert len(sessions) == 3
    assert [sessions.adapter(name) for name in "abcde"] == ["x@1", None, None, "x@1", "x@1"]


def test_the_bonus_is_what_the_docstring_says() -> None:
    clock = Clock()
    sessions = Sessions(RouterOptions(stickiness=2.0, session_s=100.0), clock=clock)
    sessions.answered("s", "a@1")
    for _ in range(2):
        sessions.answered("s", "a@1", by_itself=False)
    clock.now_s = 25.0
    for text, share in (("and", 1.0), ("weather", UNCONNECTED)):
        last = sessions.last("s", text)
        assert last is not None
        assert last.bonus == pytest.approx(2.0 * KEPT_PER_REQUEST**2 * 0.75 * share)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("and what about children?", True),
        ("What about adults?", True),
        ("why?", True),
        ("make it faster", True),
        ("how is the weather", False),
        ("a train travels 60 miles in 2 hours with a stop, how fast is it", False),
        ("Android phones", False),
        ("", False),
        ("!?", False),
    ],
)
def test_what_points_back(text: str, expected: bool) -> None:
    assert follows_up(text) is expected


class Conversation(BagEmbedder):
    """Hears in some texts, which say little by themselves, a little of others."""

    HEARD: ClassVar = {
        "and what about children?": ("treatments of diseases and pain", 0.2),
        "and what then?": ("the clause of a contract", 0.2),
    }

    async def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = await super().embed(texts)
        for at, text in enumerate(texts):
            if text in self.HEARD:
                about, share = self.HEARD[text]
                noise = self._vector(f"{text} noise")
                one, other = (v / np.linalg.norm(v) for v in (self._vector(about), noise))
                vectors[at] = share * one + (1.0 - share**2) ** 0.5 * other
        return vectors


@both_backends
async def test_a_conversation_with_follow_ups() -> None:
    router = HybridRouter(Conversation())

    async def said(context: RouteContext, *texts: str) -> list[str]:
        found = [await router.route(text, candidates=CARDS, context=context) for text in texts]
        return [chosen[0].adapter if chosen else "" for chosen in found]

    follow_up = "and what about children?"
    assert await said(RouteContext(), follow_up, "and what then?") == ["", ""]
    assert await said(
        S,
        "how is asthma treated",
        follow_up,
        "draft a confidentiality clause for a contract",
        "and what then?",
        follow_up,
        "turn on the lights",
    ) == ["medical", "medical", "legal", "legal", "", ""]


def test_many_threads_leave_every_session_as_if_it_were_alone() -> None:
    router, _ = sticky(NEAR)
    found: dict[str, str] = {}

    def talk(name: str) -> None:
        async def main() -> None:
            async with anyio.create_task_group() as group:
                for n in range(10):
                    group.start_soon(one, RouteContext(session_id=f"{name}{n}"))

        async def one(context: RouteContext) -> None:
            queries = ["and a", "and b", "and c", "and b"]
            found[str(context.session_id)] = await answers(router, *queries, context=context)

        anyio.run(main)

    threads = [threading.Thread(target=talk, args=(name,)) for name in "xyzw"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found.values()) == {"aacb"}
    assert len(found) == len(router.sessions) == 40
