"""The vectors of candidates and questions; a card that was seen before is not embedded again."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import anyio.to_thread
import numpy as np

from intrinsic.card import AdapterCard
from intrinsic.routing.card_vectors import CardVectors, texts_of
from intrinsic.routing.dense import DenseView
from intrinsic.routing.guard import EncoderGuard
from intrinsic.routing.index import CandidateView
from intrinsic.routing.question import Question
from intrinsic.routing.refit import Refit
from intrinsic.routing.router import Vectors
from intrinsic.routing.vector_cache import Vector


class MeaningIndex:
    """Makes the `DenseView` of views, and fits their heads, off the event loop."""

    def __init__(self, guard: EncoderGuard) -> None:
        self._guard = guard
        self._views: WeakKeyDictionary[CandidateView, DenseView] = WeakKeyDictionary()
        self._cards: dict[AdapterCard, CardVectors] = {}  # of the latest view
        self._refit = Refit()

    async def embed(self, question: Question, view: CandidateView) -> tuple[DenseView, Vector]:
        """Return the vectors of `view` and of `question`; raise `EncoderError` at the deadline."""

        async def ask() -> tuple[DenseView, Vector]:
            dense = await self._dense(view)
            vectors = await self._guard.embed_queries([text for text, _ in question.parts])
            return dense, _mean(vectors, [weight for _, weight in question.parts])

        return await self._guard.bounded(ask)

    async def prepare(self, view: CandidateView) -> None:
        """Embed the cards of `view` and wait for their head, however long that takes.

        Raises `EncoderError`.
        """

        async def ask() -> None:
            await self._guard.embed_query("warm up")
            if view.candidates:
                await self._dense(view)

        await self._guard.bounded(ask, patient=True)
        await self._refit.settled()

    async def _dense(self, view: CandidateView) -> DenseView:
        dense = self._views.get(view)
        if dense is not None:
            return dense
        known = self._cards
        missing = [card for card in view.cards if card not in known]
        texts = [text for card in missing for text in texts_of(card)]
        vectors = await self._guard.embed_cards(texts) if texts else np.zeros((0, 0), np.float32)
        dense = await anyio.to_thread.run_sync(self._made, view, known, missing, vectors)
        self._cards = dict(zip(view.cards, dense.cards, strict=True))
        self._views[view] = dense
        return dense

    def _made(
        self,
        view: CandidateView,
        known: dict[AdapterCard, CardVectors],
        missing: Sequence[AdapterCard],
        vectors: Vectors,
    ) -> DenseView:
        fresh: dict[AdapterCard, CardVectors] = {}
        at = 0
        for card in missing:
            end = at + len(texts_of(card))
            fresh[card] = CardVectors.of(card, vectors[at:end])
            at = end
        cards = [known.get(card) or fresh[card] for card in view.cards]
        dense = DenseView(view, cards)
        self._refit.take(view, dense)
        return dense


def _mean(vectors: Vectors, weights: Sequence[float]) -> Vector:
    """The unit vector of a weighted sum; parts that cancel out leave a zero, near to nothing."""
    if len(vectors) == 1:
        one: Vector = vectors[0]
        return one
    total: Vector = np.asarray(weights, np.float32) @ vectors
    length = float(np.linalg.norm(total))
    return total / np.float32(length) if length > 1e-6 else np.zeros_like(total)
