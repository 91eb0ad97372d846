"""The vectors of candidates and questions; a card that was seen before is not embedded again."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import NamedTuple
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


class Missing(NamedTuple):
    """What was known when a view came, the cards that were not, and the vectors of their texts.

    `revision` is that of the embedder which made them.
    """

    revision: object
    known: dict[AdapterCard, CardVectors]
    cards: Sequence[AdapterCard]
    vectors: Vectors


class MeaningIndex:
    """Makes the `DenseView` of views, and fits their heads, off the event loop.

    When the embedder says that its vectors are others now (`revision`), cards are embedded again.
    """

    def __init__(self, guard: EncoderGuard) -> None:
        self._guard = guard
        self._views: WeakKeyDictionary[CandidateView, DenseView] = WeakKeyDictionary()
        self._cards: dict[AdapterCard, CardVectors] = {}  # of the latest view
        self._latest: DenseView | None = None
        self._revision: object = None
        self._refit = Refit()
        self._making = threading.Lock()

    async def embed(self, question: Question, view: CandidateView) -> tuple[DenseView, Vector]:
        """Return the vectors of `view` and of `question`; raise `EncoderError` at the deadline."""

        texts = [text for text, _ in question.parts]

        async def ask() -> tuple[DenseView | Missing, Vectors]:
            found = self._known(view) or await self._missing(view)
            vectors = await self._guard.embed_queries(texts)
            if self._has_changed():
                found = await self._missing(view)
            return found, vectors

        found, vectors = await self._guard.bounded(ask)
        vector = _mean(vectors, [weight for _, weight in question.parts])
        return await self._dense(view, found), vector

    async def prepare(self, view: CandidateView) -> None:
        """Embed the cards of `view` and wait for their head, however long that takes.

        Raises `EncoderError`.
        """

        async def ask() -> Missing | None:
            await self._guard.embed_query("warm up")
            self._has_changed()
            return await self._missing(view) if view.candidates else None

        found = await self._guard.bounded(ask, patient=True)
        if found is None:
            return
        dense = await self._dense(view, found)
        while dense.unfit:
            self._refit.queue(view, dense)
            await self._refit.settled()

    def _known(self, view: CandidateView) -> DenseView | None:
        dense = self._views.get(view)
        if dense is not None and dense.unfit:
            self._refit.queue(view, dense)  # unless it is queued, or being fitted
        return dense

    def _has_changed(self) -> bool:
        """Whether the embedder is another than before; then all that was kept is forgotten."""
        before, found = self._revision, self._guard.revision
        if before == found:
            return False
        with self._making:
            self._revision = found
            if before is None:
                return False
            self._views.clear()
            self._cards, self._latest, self._refit = {}, None, Refit()
            self._guard.forget()
            return True

    async def _missing(self, view: CandidateView) -> Missing:
        revision, known = self._revision, self._cards
        cards = [card for card in view.cards if card not in known]
        texts = [text for card in cards for text in texts_of(card)]
        vectors = await self._guard.embed_cards(texts) if texts else np.zeros((0, 0), np.float32)
        return Missing(revision, known, cards, vectors)

    async def _dense(self, view: CandidateView, found: DenseView | Missing) -> DenseView:
        """The vectors of a view, made by the first who asks; the others wait for it."""
        if isinstance(found, DenseView):
            return found
        return await anyio.to_thread.run_sync(self._made, view, found)

    def _made(self, view: CandidateView, missing: Missing) -> DenseView:
        with self._making:
            made = self._views.get(view)
            if made is not None:
                return made
            fresh: dict[AdapterCard, CardVectors] = {}
            at = 0
            for card in missing.cards:
                end = at + len(texts_of(card))
                fresh[card] = CardVectors.of(card, missing.vectors[at:end])
                at = end
            known = missing.known
            cards = [known.get(card) or fresh[card] for card in view.cards]
            if missing.revision not in (None, self._revision):
                return DenseView(view, cards, None)  # of an embedder that is gone: for this once
            dense = self._latest = DenseView(view, cards, self._latest)
            self._refit.take(view, dense)
            self._cards = dict(zip(view.cards, dense.cards, strict=True))
            self._views[view] = dense
            return dense


def _mean(vectors: Vectors, weights: Sequence[float]) -> Vector:
    """The unit vector of a weighted sum; parts that cancel out leave a zero, near to nothing."""
    if len(vectors) == 1:
        one: Vector = vectors[0]
        return one
    total: Vector = np.asarray(weights, np.float32) @ vectors
    length = float(np.linalg.norm(total))
    return total / np.float32(length) if length > 1e-6 else np.zeros_like(total)
