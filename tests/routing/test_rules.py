"""Cards' own rules: words that decide, words that forbid, in every router, for route and rank."""

from __future__ import annotations

import dataclasses

import pytest

from intrinsic.card import AdapterCard
from intrinsic.events import MemoryVector
from intrinsic.routing import ROUTERS, RouterOptions, make_router
from intrinsic.routing import rules as rules_module
from intrinsic.routing.card_router import CardRouter
from intrinsic.routing.index import CardIndex
from intrinsic.routing.rules import NO_HITS, CardRules
from intrinsic.selection import RouteContext
from tests.bus.backends import both_backends
from tests.routing.fakes import CARDS, BagEmbedder
from tests.routing.given import GivenRouter, cards

EACH = pytest.mark.parametrize("name", sorted({"keyword", "embedding", "hybrid"} & set(ROUTERS)))
MEDICAL, LEGAL, *OTHERS = CARDS
CONTRACT = "draft a termination clause for this contract with a hospital"


def router(name: str, **options: float) -> CardRouter:
    made = make_router(name, BagEmbedder(), RouterOptions(**options))  # type: ignore[arg-type]
    assert isinstance(made, CardRouter)
    return made


def must_of(text: str, *phrases: str) -> bool:
    view = CardIndex().view((AdapterCard("one", must=phrases), AdapterCard("other")))
    return 0 in CardRules(view).match([text]).must


@pytest.mark.parametrize(
    ("phrase", "text", "hits"),
    [
        ("law", "The LAWS of physics.", True),
        ("law", "a flawless courtyard", False),
        ("law", "outlaw", False),
        ("terms of service", "What are the Terms of Services?", True),
        ("terms of service", "terms, of: service", True),
        ("terms of service", "service terms", False),
        ("terms of service", "terms service", False),
        ("terms of service", "terms of", False),
        ("and", "this and that", True),
        ("café", "in the CAFE", True),
        ("喘息", "喘息の治療", True),
        ("!!!", "!!!", False),
        ("", "anything", False),
        ("don't", "I don’t know", True),
    ],
)
def test_phrases_are_words_in_sequence_by_their_stems(phrase: str, text: str, hits: bool) -> None:
    assert must_of(text, phrase) is hits


def test_of_a_card_the_longest_phrase_counts_and_never_outdoes_must() -> None:
    card = AdapterCard("one", must=("tax", "income tax  return"), never=("joke",))
    rules = CardRules(CardIndex().view((card, AdapterCard("two", never=("tax", "income tax")))))
    hits = rules.match(["my income tax returns"])
    assert hits.must[0] == ("income tax return", 3)
    assert hits.never[1] == ("income tax", 2)
    hits = rules.match(["a joke", "about tax"])
    assert hits.must == {}
    assert hits.never == {0: ("joke", 1), 1: ("tax", 1)}
    assert rules.match(["nothing of the kind"]) == NO_HITS


@EACH
@both_backends
async def test_must_wins_and_says_so(name: str) -> None:
    medical = dataclasses.replace(MEDICAL, must=("hospital",))
    candidates = (medical, LEGAL, *OTHERS)
    (before,) = await router(name).route(CONTRACT, candidates=CARDS)
    assert before.adapter == "legal"
    (chosen,) = await router(name).route(CONTRACT, candidates=candidates)
    assert (chosen.adapter, chosen.confidence, chosen.weight) == ("medical", 1.0, 1.0)
    assert chosen.reason == 'gets every text with "hospital" (must)'
    ranked = await router(name).rank(CONTRACT, candidates=candidates)
    assert ranked[0] == dataclasses.replace(chosen, weight=0.0)
    assert len(ranked) == len(CARDS)
    assert ranked[1].adapter == "legal"
    both = await router(name).route(CONTRACT, candidates=candidates, top_k=2)
    assert [one.adapter for one in both] == ["medical", "legal"]
    (one,) = await router(name).rank(CONTRACT, candidates=candidates, first=1)
    assert one == ranked[0]


@EACH
@both_backends
async def test_never_excludes_and_says_so(name: str) -> None:
    legal = dataclasses.replace(LEGAL, never=("a hospital",))
    candidates = (MEDICAL, legal, *OTHERS)
    for one in await router(name, threshold=0.0).route(CONTRACT, candidates=candidates, top_k=9):
        assert one.adapter != "legal"
    assert await router(name).route(CONTRACT, candidates=[legal]) == []
    ranked = await router(name).rank(CONTRACT, candidates=candidates)
    assert len(ranked) == len(candidates)
    assert (ranked[-1].adapter, ranked[-1].confidence) == ("legal", 0.0)
    assert ranked[-1].reason == 'gets no text with "a hospital" (never)'
    (chosen,) = await router(name).route("a termination clause", candidates=[legal, MEDICAL])
    assert chosen.adapter == "legal"


@EACH
@both_backends
async def test_a_candidate_that_is_ruled_out_is_no_rival(name: str) -> None:
    twin = dataclasses.replace(LEGAL, name="twin", description="Drafts clauses of contracts")
    (alone,) = await router(name).rank(CONTRACT, candidates=CARDS, first=1)
    against = await router(name).rank(CONTRACT, candidates=(*CARDS, twin))
    ruled_out = dataclasses.replace(twin, never=("hospital",))
    (without,) = await router(name).rank(CONTRACT, candidates=(*CARDS, ruled_out), first=1)
    assert against[0].confidence < without.confidence
    assert without.confidence == pytest.approx(alone.confidence, abs=0.1)


@EACH
@both_backends
async def test_what_the_context_excludes_no_rule_brings_back(name: str) -> None:
    medical = dataclasses.replace(MEDICAL, must=("hospital",))
    context = RouteContext(exclude=frozenset({"medical"}))
    candidates = (medical, LEGAL, *OTHERS)
    (chosen,) = await router(name).route(CONTRACT, candidates=candidates, context=context)
    assert chosen.adapter == "legal"
    ranked = await router(name).rank(CONTRACT, candidates=candidates, context=context)
    assert "medical" not in {one.adapter for one in ranked}
    every = RouteContext(exclude=frozenset(card.name for card in CARDS))
    assert await router(name).route(CONTRACT, candidates=candidates, context=every) == []
    assert await router(name).rank(CONTRACT, candidates=candidates, context=every) == []


@both_backends
async def test_of_several_the_longer_phrase_then_the_higher_score() -> None:
    a, b, c, d = cards("abcd")
    a = dataclasses.replace(a, must=("tax",))
    b = dataclasses.replace(b, must=("income tax",))
    c = dataclasses.replace(c, must=("tax",))
    made = GivenRouter({"my income tax": {"a": 0.1, "b": 0.0, "c": 0.3, "d": 0.99}})
    ranked = await made.rank("my income tax", candidates=(a, b, c, d))
    assert [one.adapter for one in ranked] == ["b", "c", "a", "d"]
    assert [one.confidence for one in ranked] == [1.0, 1.0, 1.0, 0.99]
    chosen = await made.route("my income tax", candidates=(a, b, c, d), top_k=3)
    assert [one.adapter for one in chosen] == ["b", "c", "a"]
    assert [one.weight for one in chosen] == [pytest.approx(1 / 3)] * 3


@both_backends
async def test_any_memory_may_fulfil_a_rule_but_no_phrase_goes_over_two() -> None:
    candidates = (AdapterCard("one", must=("income tax",)), AdapterCard("two"))
    made = make_router("keyword")
    for texts, hits in ((("weather", "my income tax"), True), (("my income", "tax day"), False)):
        memories = tuple(MemoryVector(text, text, relevance_score=1.0) for text in texts)
        context = RouteContext(memories=memories)
        chosen = await made.route("\n".join(texts), candidates=candidates, context=context)
        assert [one.adapter for one in chosen] == ["one"] * hits


@both_backends
async def test_rules_without_a_card_that_has_any_cost_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(text: str) -> list[str]:
        raise AssertionError("no rule needs the words of a text")

    monkeypatch.setattr(rules_module, "words", refuse)
    made = make_router("keyword")
    assert await made.route("how is asthma treated", candidates=CARDS)
    with pytest.raises(AssertionError):
        await made.route("tax", candidates=[AdapterCard("one", must=("tax",))])


def test_a_text_is_looked_up_not_every_card() -> None:
    many = tuple(AdapterCard(f"a{n}", must=(f"topic {n}",)) for n in range(2_000))
    rules = CardRules(CardIndex().view(many))
    looked_up: list[object] = []

    class Watched(dict):  # type: ignore[type-arg]
        def get(self, key, default=None):  # type: ignore[no-untyped-def]
            looked_up.append(key)
            return super().get(key, default)

    rules._must = Watched(rules._must)
    assert list(rules.match(["on topic 1234, please"]).must) == [1234]
    assert len(looked_up) == 1
