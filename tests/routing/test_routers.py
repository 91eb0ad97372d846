"""What every router promises, with a small encoder."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intrinsic.card import AdapterCard
from intrinsic.errors import ConfigError
from intrinsic.routing import (
    ROUTERS,
    RankingRouter,
    Router,
    RouterOptions,
    card_router,
    make_router,
)
from intrinsic.routing.choice import Choice, Fit
from intrinsic.selection import RouteContext, Selection
from tests.bus.backends import BACKENDS, both_backends
from tests.routing.fakes import CARDS, BagEmbedder

EACH = pytest.mark.parametrize("name", sorted(ROUTERS))
MEDICAL, LEGAL, CODING, *_ = CARDS


def router(name: str, **options: float) -> RankingRouter:
    return make_router(name, BagEmbedder(), RouterOptions(**options))  # type: ignore[arg-type]


def test_the_names_are_the_three_and_hybrid_is_the_default() -> None:
    assert sorted(ROUTERS) == ["embedding", "hybrid", "keyword"]
    assert type(make_router(embedder=BagEmbedder())).__name__ == "HybridRouter"
    with pytest.raises(ConfigError, match="unknown router 'bm25'; valid: hybrid, embedding, keyw"):
        make_router("bm25")
    with pytest.raises(ConfigError, match="router 'embedding' needs an encoder"):
        make_router("embedding")


@EACH
def test_a_router_is_a_router(name: str) -> None:
    assert isinstance(router(name), Router)
    assert isinstance(router(name), RankingRouter)


@EACH
@pytest.mark.parametrize(
    ("query", "adapter"),
    [
        ("how is asthma treated, and what are the symptoms", "medical"),
        ("draft a termination clause for this contract", "legal"),
        ("write a python function that checks a number", "coding"),
        ("tell me a story about a king and a dragon", "creative"),
        ("which ingredients do I need for pancakes", "cooking"),
    ],
)
@both_backends
async def test_the_right_domain_and_a_reason(name: str, query: str, adapter: str) -> None:
    made = router(name)
    (chosen,) = await made.route(query, candidates=CARDS)
    assert chosen.adapter == adapter
    assert chosen.weight == 1.0
    assert chosen.confidence >= 0.5
    assert "shares the word" in chosen.reason
    assert ("cosine" in chosen.reason) == (name != "keyword")
    ranked = await made.rank(query, candidates=CARDS)
    assert ranked[0].adapter == adapter
    assert {one.adapter for one in ranked} == {card.name for card in CARDS}
    confidences = [one.confidence for one in ranked]
    assert confidences == sorted(confidences, reverse=True)
    assert ranked[0].confidence == chosen.confidence
    assert {one.weight for one in ranked} == {0.0}


@both_backends
async def test_a_reason_is_short_and_on_one_line() -> None:
    long = "a tale of\nmany words " * 40
    card = AdapterCard("long", description="unlike", examples=(long,))
    (chosen,) = await router("hybrid", threshold=0.0).route(long, candidates=[card])
    assert chosen.reason.startswith('is nearest to its example "a tale of many words a tale')
    assert '..." (cosine 1.00) and shares the words tale, many, words' in chosen.reason
    assert "\n" not in chosen.reason
    assert len(chosen.reason) < 200


@EACH
@both_backends
async def test_words_not_parts_of_words(name: str) -> None:
    query = "a flawless classic courtyard"
    for one in await router(name).rank(query, candidates=CARDS):
        assert "shares" not in one.reason
    assert await router(name).route(query, candidates=CARDS) == []


@both_backends
async def test_without_a_common_word_the_keyword_router_is_not_sure_at_all() -> None:
    for cards in (CARDS, (MEDICAL,), (AdapterCard("one"),)):
        for one in await router("keyword").rank("zzz", candidates=cards):
            assert one.confidence == 0.0
            assert one.reason == "has no word in common with it"
    assert (await router("keyword").rank("a contract", candidates=(LEGAL, MEDICAL)))[
        1
    ].confidence == 0


@EACH
@both_backends
async def test_nothing_fits(name: str) -> None:
    for query in ("turn on the lights", "zzz qqq", "42", "!!!"):
        assert await router(name).route(query, candidates=CARDS) == []


@EACH
@both_backends
async def test_an_adapter_is_routable_from_the_moment_it_is_a_candidate(name: str) -> None:
    made = router(name)
    query = "which ingredients do I need for pancakes"
    assert await made.route(query, candidates=CARDS[:-1]) == []
    (chosen,) = await made.route(query, candidates=list(CARDS))
    assert chosen.adapter == "cooking"
    assert await made.route(query, candidates=CARDS[:-1]) == []


@EACH
@both_backends
async def test_what_was_asked_before_changes_no_answer(name: str) -> None:
    used = router(name)
    queries = ["how is asthma treated", "write a python class", "pancakes"]
    for candidates in (CARDS, CARDS[1:], CARDS[:2], (MEDICAL, MEDICAL), CARDS[::-1], CARDS):
        for query in queries:
            expected = await router(name).rank(query, candidates=candidates)
            assert await used.rank(query, candidates=candidates) == expected


@EACH
@both_backends
async def test_excluded_adapters_are_not_chosen(name: str) -> None:
    made = router(name)
    query = "how is asthma treated, and what are the symptoms"
    for excluded in ("medical", "medical@1"):
        context = RouteContext(exclude=frozenset({excluded, "unknown"}))
        assert await made.route(query, candidates=CARDS, context=context) == []
        ranked = await made.rank(query, candidates=CARDS, context=context)
        assert "medical" not in {one.adapter for one in ranked}


@EACH
@both_backends
async def test_a_second_adapter_only_where_it_fits_by_itself(name: str) -> None:
    made = router(name)
    assert len(await made.route("how is asthma treated", candidates=CARDS, top_k=3)) == 1
    both = "draft a confidentiality clause for a contract. how is asthma treated?"
    generous = router(name, threshold=0.02, min_weight=0.0)
    chosen = await generous.route(both, candidates=CARDS, top_k=2)
    assert {one.adapter for one in chosen} == {"legal", "medical"}
    assert sum(one.weight for one in chosen) == pytest.approx(1.0)
    ratios = [one.weight / one.confidence for one in chosen]
    assert ratios[0] == pytest.approx(ratios[1])
    strict = router(name, threshold=0.02, min_weight=0.9)
    assert len(await strict.route(both, candidates=CARDS, top_k=2)) == 1


@EACH
@both_backends
async def test_no_room_for_less_than_one(name: str) -> None:
    with pytest.raises(ConfigError, match="top_k is 0"):
        await router(name).route("anything", candidates=CARDS, top_k=0)


@EACH
@both_backends
async def test_twins_are_both_reported_in_the_order_given(name: str) -> None:
    twin = dataclasses.replace(MEDICAL, name="zwilling")
    query = "how is asthma treated, and what are the symptoms"
    for pair in ((MEDICAL, twin), (twin, MEDICAL)):
        ranked = await router(name).rank(query, candidates=(*pair, *CARDS[1:]))
        assert [one.adapter for one in ranked[:2]] == [card.name for card in pair]
        assert ranked[0].confidence == ranked[1].confidence >= 0.5
    same = await router(name).rank(query, candidates=(MEDICAL, MEDICAL, LEGAL))
    assert [one.adapter for one in same] == ["medical", "medical", "legal"]


@EACH
@both_backends
async def test_versions_are_reported_by_key(name: str) -> None:
    newer = dataclasses.replace(MEDICAL, version="2", description="Newer")
    ranked = await router(name).rank("asthma", candidates=(MEDICAL, newer, LEGAL))
    assert {one.adapter for one in ranked} == {"medical@1", "medical@2", "legal"}


@EACH
@pytest.mark.parametrize("query", ["", " \n\t", "\x00\x07\x1b", "\ud800", "\u200b\ufeff"])
@both_backends
async def test_an_empty_text_fits_no_adapter(name: str, query: str) -> None:
    assert await router(name).route(query, candidates=CARDS) == []
    ranked = await router(name).rank(query, candidates=CARDS)
    assert [one.adapter for one in ranked] == [card.name for card in CARDS]
    assert {(one.confidence, one.reason) for one in ranked} == {(0.0, "the text is empty")}


@EACH
@both_backends
async def test_no_candidates_no_choice(name: str) -> None:
    for query in ("", "how is asthma treated"):
        assert await router(name).route(query, candidates=[]) == []
        assert await router(name).rank(query, candidates=[]) == []


@EACH
@both_backends
async def test_cards_of_nothing_but_a_name(name: str) -> None:
    bare = (AdapterCard("pirate"), AdapterCard("!?"), AdapterCard("海賊"), *CARDS)
    ranked = await router(name).rank("talk like a pirate", candidates=bare)
    assert ranked[0].adapter == "pirate"
    assert len(ranked) == len(bare)
    assert len(await router(name).rank("hello", candidates=[AdapterCard("only")])) == 1


@EACH
@pytest.mark.parametrize(
    "query",
    [
        "Wie behandelt man Asthma?",
        "喘息の治療法は何ですか",
        "как лечить астму 🫁",
        "how is \x00asthma\x1b[31m \ud800treated",
        "a" * 100_000,
        "how is asthma treated " * 5_000,
        "<script>' OR 1=1; --",
    ],
    ids=["german", "japanese", "russian", "control", "one word", "long", "code"],
)
@both_backends
async def test_any_text_gets_an_answer(name: str, query: str) -> None:
    ranked = await router(name).rank(query, candidates=CARDS)
    assert len(ranked) == len(CARDS)
    assert all(len(one.reason) < 300 for one in ranked)


@given(st.text(max_size=200), st.sampled_from(sorted(ROUTERS)), st.integers(1, 4))
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
def test_selections_are_sound(query: str, name: str, top_k: int) -> None:
    async def main() -> list[Selection]:
        return await router(name).route(query, candidates=CARDS, top_k=top_k)

    chosen = anyio.run(main)
    assert chosen == anyio.run(main)
    assert len(chosen) <= top_k
    assert not chosen or sum(one.weight for one in chosen) == pytest.approx(1.0)
    assert all(one.confidence >= 0.5 for one in chosen)


@EACH
def test_one_router_in_many_threads_and_loops(name: str) -> None:
    made = router(name)
    queries = [f"how is asthma treated in case {n}" for n in range(6)]
    found: dict[tuple[str, int], list[Selection]] = {}

    def work(backend: str, offset: int) -> None:
        async def main() -> None:
            async with anyio.create_task_group() as group:
                for n in range(len(queries)):
                    group.start_soon(ask, n)

        async def ask(n: int) -> None:
            candidates = CARDS[: 2 + (n + offset) % 4]
            found[backend, n] = await made.rank(queries[n], candidates=CARDS)
            await made.rank(queries[n], candidates=candidates)

        anyio.run(main, backend=backend)

    threads = [threading.Thread(target=work, args=(b, i)) for i, b in enumerate(BACKENDS * 2)]
    run_all(threads)
    for n in range(len(queries)):
        assert found["asyncio", n] == found["trio", n]


def run_all(threads: list[threading.Thread]) -> None:
    act: Callable[[threading.Thread], None]
    for act in (threading.Thread.start, threading.Thread.join):
        for thread in threads:
            act(thread)


@both_backends
async def test_a_large_registry_is_handled_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card_router, "_MANY_CARDS", 500)
    many = [AdapterCard(f"adapter{n}", description=f"about topic{n}") for n in range(501)]
    threads: list[int] = []
    real = Choice.chosen

    def noted(self: Choice, top_k: int) -> list[tuple[Fit, float]]:
        threads.append(threading.get_ident())
        return real(self, top_k)

    monkeypatch.setattr(Choice, "chosen", noted)
    (chosen,) = await router("hybrid").route("about topic7", candidates=many)
    assert chosen.adapter == "adapter7"
    await router("hybrid").route("about topic7", candidates=many[:9], top_k=9)
    assert threads[0] != threads[1] == threading.get_ident()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threshold", 1.5),
        ("min_weight", -0.1),
        ("bm25_weight", float("nan")),
        ("bm25_weight", -1.0),
        ("encoder_timeout_s", 0.0),
        ("encoder_load_timeout_s", -1.0),
        ("encoder_retry_s", float("inf")),
        ("cached_texts", 0),
        ("cached_views", 0),
    ],
)
def test_options_are_checked(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name} is {value}; it must"):
        RouterOptions(**{name: value})  # type: ignore[arg-type]
