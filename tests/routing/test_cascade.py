"""The cascade: when a second router is asked, and whose answer stands."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import anyio
import pytest

from intrinsic.backends import AnswerScore
from intrinsic.card import AdapterCard
from intrinsic.errors import ConfigError, RoutingError
from intrinsic.routing import (
    Candidate,
    CascadeRouter,
    Judgement,
    KeywordRouter,
    LLMOptions,
    LLMRouter,
    RankingRouter,
    make_router,
)
from intrinsic.selection import RouteContext, Selection
from tests.bus.backends import both_backends
from tests.routing.fakes import CARDS, BagEmbedder, Clock
from tests.routing.scripted import ScriptedRouter

CANDIDATES = CARDS[:2]


class Says(ScriptedRouter):
    """Gives one adapter a confidence; a `fault` is raised, or "hang". Counts what it is asked."""

    def __init__(self, adapter: str, confidence: float, fault: Exception | str = "") -> None:
        self.best = Selection(adapter, confidence, 1.0, "so it is")
        self.fault = fault
        self.asked = 0
        self.warm = 0

    async def ranked(self, candidates: Sequence[AdapterCard]) -> list[Selection]:
        self.asked += 1
        await anyio.lowlevel.checkpoint()
        if isinstance(self.fault, Exception):
            raise self.fault
        if self.fault == "hang":
            await anyio.sleep_forever()
        return [self.best]

    async def warm_up(self, candidates: Sequence[AdapterCard] = ()) -> None:
        self.warm += 1


@pytest.mark.parametrize(
    ("confidence", "is_asked"),
    [
        (0.0, False),
        (0.29, False),
        (0.3, True),
        (0.4, True),
        (0.7, True),
        (0.71, False),
        (1.0, False),
    ],
)
@both_backends
async def test_the_judge_is_asked_where_the_first_router_is_unsure(
    confidence: float, is_asked: bool
) -> None:
    judge = Says("legal", 0.9)
    made = CascadeRouter(Says("medical", confidence), judge, low=0.3, high=0.7)
    assert isinstance(made, RankingRouter)
    assert made.name == "cascade"
    chosen = await made.route("x", candidates=CANDIDATES)
    ranked = await made.rank("x", candidates=CANDIDATES)
    assert judge.asked == (2 if is_asked else 0)
    sure = ["medical"] if confidence >= 0.5 else []
    assert [one.adapter for one in chosen] == (["legal"] if is_asked else sure)
    assert [one.adapter for one in ranked] == (["legal"] if is_asked else ["medical"])
    if is_asked:
        asked = f"so it is (asked as the first router gave medical {confidence:.0%})"
        assert [chosen[0].reason, ranked[0].reason] == [asked, asked]


@both_backends
async def test_the_judge_may_say_that_none_fits() -> None:
    made = CascadeRouter(Says("medical", 0.6), Says("medical", 0.1))
    assert await made.route("x", candidates=CANDIDATES) == []


@both_backends
async def test_nothing_to_choose_from_is_no_doubt() -> None:
    judge = Says("legal", 0.9)
    made = CascadeRouter(KeywordRouter(), judge, low=0.0, high=1.0)
    assert await made.route("x", candidates=[]) == []
    assert await made.rank("x", candidates=[]) == []
    assert judge.asked == 0


@both_backends
async def test_after_the_deadline_the_first_answer_stands(
    caplog: pytest.LogCaptureFixture,
) -> None:
    judge, clock = Says("legal", 0.9, "hang"), Clock()
    made = CascadeRouter(Says("medical", 0.6), judge, deadline_s=0.01, retry_s=30.0, clock=clock)
    why = "the model did not answer within 0.01 s"
    for _ in range(3):
        (chosen,) = await made.route("x", candidates=CANDIDATES)
        assert (chosen.adapter, chosen.confidence, chosen.weight) == ("medical", 0.6, 1.0)
        assert chosen.reason == f"so it is (no second opinion: {why})"
    assert made.degraded == why
    assert judge.asked == 1
    assert caplog.text.count(why) == 1
    judge.fault = ""
    clock.now_s = 31.0
    caplog.set_level(logging.INFO)
    (chosen,) = await made.route("x", candidates=CANDIDATES)
    assert chosen.adapter == "legal"
    assert made.degraded == ""
    assert "to be had again" in caplog.text


@pytest.mark.parametrize("fault", [RoutingError("no model"), ZeroDivisionError("no model")])
@both_backends
async def test_a_judge_that_fails_is_logged_once_and_asked_again(
    fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    judge = Says("legal", 0.9, fault)
    made = CascadeRouter(Says("medical", 0.6), judge)
    for _ in range(2):
        (chosen,) = await made.route("x", candidates=CANDIDATES)
        assert chosen.adapter == "medical"
        assert chosen.reason.endswith(f"(no second opinion: {type(fault).__name__}: no model)")
    assert judge.asked == 2
    assert caplog.text.count("no model") == 1
    assert (await made.rank("x", candidates=CANDIDATES))[0].adapter == "medical"


@both_backends
async def test_a_first_router_that_fails_is_not_hidden() -> None:
    made = CascadeRouter(Says("medical", 0.6, RoutingError("lost")), Says("legal", 0.9))
    with pytest.raises(RoutingError, match="lost"):
        await made.route("x", candidates=CANDIDATES)


@both_backends
async def test_cancellation_passes_through() -> None:
    made = CascadeRouter(Says("medical", 0.6), Says("legal", 0.9, "hang"), deadline_s=3600.0)
    with anyio.move_on_after(0.01) as scope:
        await made.route("x", candidates=CANDIDATES)
        raise AssertionError("it was not cancelled")
    assert scope.cancelled_caught
    assert made.degraded == ""


@both_backends
async def test_both_are_warmed_up() -> None:
    first, judge = Says("medical", 0.6), Says("legal", 0.9)
    await CascadeRouter(first, judge).warm_up(CANDIDATES)
    assert (first.warm, judge.warm) == (1, 1)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"low": 0.8, "high": 0.2}, "the band is .0.8, 0.2."),
        ({"low": -0.1}, "the band is"),
        ({"high": float("nan")}, "the band is"),
        ({"deadline_s": 0.0}, "deadline_s is 0.0; it must be above 0"),
        ({"deadline_s": float("nan")}, "deadline_s is nan"),
        ({"retry_s": -1.0}, "retry_s is -1.0; it must be at least 0"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        CascadeRouter(Says("a", 0.5), Says("b", 0.5), **setting)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=words):
        LLMOptions(**setting)  # type: ignore[arg-type]


@both_backends
async def test_a_judge_without_a_router_will_do() -> None:
    class Second:
        async def judge(self, query: str, candidates: Sequence[Candidate]) -> Judgement:
            return Judgement((0.0, 0.9), ("no", "yes"))

    (chosen,) = await CascadeRouter(Says("medical", 0.6), Second()).route(
        "x", candidates=CANDIDATES
    )
    assert chosen.adapter == "legal"


@both_backends
async def test_a_session_follows_the_answer_that_stood() -> None:
    first = KeywordRouter()
    context = RouteContext(session_id="s")
    question = "what are the symptoms of diabetes"
    assert (await first.route(question, candidates=CANDIDATES))[0].adapter == "medical"
    made = CascadeRouter(first, Says("legal", 0.9), low=0.0, high=1.0)
    await made.route(question, candidates=CANDIDATES, context=context)
    assert first.sessions.adapter("s") == "legal@1"


@both_backends
async def test_by_name_with_options() -> None:
    class Likes:
        async def score(self, prompt: str, answers: Sequence[str]) -> list[AnswerScore]:
            wanted = "courts" in prompt
            return [AnswerScore(9.0 * (wanted and "contracts" in a), 1) for a in answers]

    options = LLMOptions(low=0.0, high=0.99, deadline_s=9.0, retry_s=1.0)
    made = make_router("cascade", BagEmbedder(), scorer=Likes(), llm=options)
    assert isinstance(made, CascadeRouter)
    assert (made.low, made.high, made.deadline_s, made.retry_s) == (0.0, 0.99, 9.0, 1.0)
    assert isinstance(made.judge, LLMRouter)
    assert made.judge.shortlist is made.hybrid
    (chosen,) = await made.route("something about courts", candidates=CARDS)
    assert chosen.adapter == "legal"
    assert "(asked as the first router gave" in chosen.reason
