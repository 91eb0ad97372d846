"""Registries beyond the shortlist, and many callers at once."""

from __future__ import annotations

import threading
from dataclasses import replace

import anyio
import numpy as np
import pytest

from intrinsic.card import AdapterCard
from intrinsic.routing import EmbeddingRouter, HybridRouter, RouterOptions, refit
from intrinsic.routing.head import Head
from intrinsic.routing.index import CardIndex
from intrinsic.routing.meaning import MeaningIndex
from intrinsic.routing.refit import Refit
from intrinsic.routing.tuning import tuned
from tests.bus.backends import both_backends
from tests.routing.fakes import CARDS, BagEmbedder, FaultyEmbedder
from tests.routing.vectors import crowd

SUBJECTS = [f"{one}{other}" for one in "bcdfglmn" for other in ("ark", "ilt", "ost", "ump", "end")]


def _cards(count: int, examples: int = 0, prefix: str = "") -> tuple[AdapterCard, ...]:
    return tuple(
        AdapterCard(
            f"{prefix}{subject}",
            domain=subject,
            description=f"all about {subject} and its {SUBJECTS[row - 1]}",
            examples=tuple(f"{subject} question number {nth}" for nth in range(examples)),
        )
        for row, subject in enumerate(SUBJECTS[:count])
    )


@both_backends
async def test_how_many_are_asked_for_does_not_change_what_is_said() -> None:
    cards = _cards(40)
    router = HybridRouter(BagEmbedder(64), options=RouterOptions(threshold=0.0, min_weight=0.0))
    for query in ("bark", "what of the dost", "gump and lend", "nothing of that"):
        ranked = await router.rank(query, candidates=cards)
        assert len(ranked) == 40
        for first in (1, 3, 16, 17, 39):
            some = await router.rank(query, candidates=cards, first=first)
            assert some == ranked[:first]
        routed = await router.route(query, candidates=cards, top_k=3)
        assert [one.confidence for one in routed] == [one.confidence for one in ranked[:3]]
        assert [one.adapter for one in routed] == [one.adapter for one in ranked[:3]]


@both_backends
async def test_callers_of_one_new_set_share_its_making(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    real = Refit.take

    def counted(self: Refit, view: object, dense: object) -> None:
        made.append(dense)
        real(self, view, dense)  # type: ignore[arg-type]

    monkeypatch.setattr(Refit, "take", counted)
    router, cards = HybridRouter(BagEmbedder(64)), _cards(20, 4)

    async def ask(number: int) -> None:
        await router.route(f"bark {number}", candidates=cards)

    async with anyio.create_task_group() as tasks:
        for number in range(12):
            tasks.start_soon(ask, number)
    assert len(made) == 1


def _is_fitted(meaning: MeaningIndex | None, router: HybridRouter, cards: object) -> bool:
    assert meaning is not None
    view = router.index.known(cards)  # type: ignore[arg-type]
    assert view is not None
    return isinstance(meaning._views[view].judge[0], Head)


@both_backends
async def test_every_set_of_candidates_gets_its_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refit, "QUICK", 0)
    router = HybridRouter(BagEmbedder(64))
    sets = [_cards(12, 4, prefix) for prefix in ("x", "y", "z")]
    for cards in sets:
        await router.route("bark", candidates=cards)
    for cards in sets:
        await router.warm_up(cards)
    assert all(_is_fitted(router.meaning, router, cards) for cards in sets)


@both_backends
async def test_one_that_was_dropped_is_fitted_when_it_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(refit, "QUICK", 0)
    monkeypatch.setattr(refit, "_MOST_WAITING", 1)
    go = threading.Event()

    def held(*given: object) -> object:
        go.wait(10)
        return tuned(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(refit, "tuned", held)
    router = HybridRouter(BagEmbedder(64))
    sets = [_cards(12, 4, prefix) for prefix in ("x", "y", "z")]
    for cards in sets:
        await router.route("bark", candidates=cards)
    go.set()
    await router.warm_up(sets[0])
    await router.warm_up(sets[1])
    await router.warm_up(sets[2])
    assert all(_is_fitted(router.meaning, router, cards) for cards in sets)


def test_a_small_set_in_between_does_not_cost_a_large_one_its_old_head() -> None:
    fits = Refit()
    view, dense, _ = crowd(12, 5)
    fits.take(view, dense)
    small_view, small, _ = crowd(3, 5)
    fits.take(small_view, small)
    _, again, _ = crowd(12, 5)
    fits._extend(view, again)
    assert isinstance(again.judge[0], Head)
    assert isinstance(dense.judge[0], Head)
    np.testing.assert_array_equal(again.judge[0].W, dense.judge[0].W)


def test_halves_of_two_cards_may_be_the_same() -> None:
    view, dense, _ = crowd(10, 6)
    cards = list(view.cards)
    shared = ("alpha one", "x", "gamma x", "x", "delta", "x")
    cards[0] = replace(cards[0], name="sql", description="", examples=shared)
    other = ("alpha one", "y", "gamma x", "y", "delta", "y")
    cards[1] = replace(cards[1], name="sql", description="", examples=other)
    assert isinstance(tuned(CardIndex().view(tuple(cards)), dense)[0], Head)


def test_cards_with_examples_alone_may_be_twins() -> None:
    one = AdapterCard("x", domain="asthma clinic", examples=("a", "b"))
    view = CardIndex().view((one, replace(one, name="y"), AdapterCard("z")))
    assert view.has_twins
    assert not CardIndex().view((AdapterCard("a"), AdapterCard("b"))).has_twins


@both_backends
async def test_a_vector_of_zeros_says_nothing() -> None:
    nothing = FaultyEmbedder(None)

    async def zeros(texts: list[str]) -> np.ndarray:
        return np.zeros((len(texts), 8), np.float32)

    nothing.embed = zeros  # type: ignore[method-assign,assignment]
    for router in (HybridRouter(nothing), EmbeddingRouter(nothing)):
        assert await router.route("qwerty uiop", candidates=CARDS) == []
        (found,) = await router.route("how is asthma treated", candidates=CARDS)
        assert found.adapter == "medical"
        assert "the encoder knows nothing of the text" in found.reason


@both_backends
async def test_huge_values_are_vectors_too() -> None:
    bag = BagEmbedder(64)
    huge = BagEmbedder(64)

    async def enormous(texts: list[str]) -> np.ndarray:
        return (await bag.embed(texts)) * np.float32(1e30)

    huge.embed = enormous  # type: ignore[method-assign,assignment]
    query = "how is asthma treated"
    plain = await HybridRouter(bag).rank(query, candidates=CARDS)
    scaled = await HybridRouter(huge).rank(query, candidates=CARDS)
    assert [one.adapter for one in plain] == [one.adapter for one in scaled]
    assert scaled[0].confidence == pytest.approx(plain[0].confidence, abs=1e-3)


@both_backends
async def test_one_long_card_does_not_make_the_table_of_all_as_wide() -> None:
    _, dense, ways = crowd(600, [900] + [1] * 599, d=8)
    found = dense.weigh(ways[5])
    found.look(np.arange(600))
    slow = [float((card.positive @ ways[5]).max()) for card in dense.cards]
    np.testing.assert_allclose(found.nearest, slow, atol=1e-5)
