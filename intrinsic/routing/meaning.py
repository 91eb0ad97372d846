"""How near a query is to each candidate in meaning: cosines of a text encoder's vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import anyio.to_thread
import numpy as np
import numpy.typing as npt

from intrinsic.routing.guard import EncoderGuard
from intrinsic.routing.index import CandidateView, Rows
from intrinsic.routing.question import Question
from intrinsic.routing.router import Vectors
from intrinsic.routing.vector_cache import Vector

Floats = npt.NDArray[np.float64]

CARD_COUNTS_AS = 2.0
"""A card stands for this many examples in the centroid."""

NEAREST = 3
LEAST_CENTROID_SHARE = 0.25


class Meaning(NamedTuple):
    """What the vector of a query says of each row of a view."""

    scores: Floats  # (rows,) near a cosine
    nearest: Floats  # (rows,) cosine to the nearest of the card's texts
    nearest_at: Rows  # (rows,) which: 0 is the card's sentence, 1 its first example
    tightness: Floats  # (rows,) mean cosine of the card's texts to their centroid


class DenseView:
    """The vectors of a `CandidateView`: of each row the card's, then its examples'.

    Scores are a centroid's cosine and the mean of the three nearest texts', mixed: a centroid
    is better for few examples, the nearest texts for a broad adapter with many.
    """

    def __init__(self, view: CandidateView, vectors: Vectors) -> None:
        self.sizes: Rows = view.n_examples + 1  # (rows,)
        self.starts: Rows = np.cumsum(self.sizes) - self.sizes  # (rows,)
        self.owners: Rows = np.repeat(np.arange(len(self.sizes)), self.sizes)  # (texts,)
        self.vectors = vectors  # (texts, d)
        sums = np.add.reduceat(vectors, self.starts, axis=0)
        sums += (CARD_COUNTS_AS - 1.0) * vectors[self.starts]
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        self.centroids: Vectors = sums / np.maximum(lengths, 1e-9)  # (rows, d)
        own = np.einsum("td,td->t", vectors, self.centroids[self.owners]).astype(np.float64)
        self.tightness: Floats = np.add.reduceat(own, self.starts) / self.sizes
        few = 5.0 / (5.0 + view.n_examples)
        self.centroid_share = LEAST_CENTROID_SHARE + (1.0 - LEAST_CENTROID_SHARE) * few

    def weigh(self, query: Vector) -> Meaning:
        """Return how near `query` (a unit vector) is to each row."""
        cosines = (self.vectors @ query).astype(np.float64).round(6)  # (texts,)
        order = np.argsort(4.0 * self.owners - cosines, kind="stable")  # nearest first, by row
        ranked = cosines[order]
        nearest = ranked[self.starts]
        mean = nearest.copy()
        for nth in range(1, NEAREST):
            have = self.sizes > nth
            mean[have] += ranked[self.starts[have] + nth]
        mean /= np.minimum(self.sizes, NEAREST)
        centroid = (self.centroids @ query).astype(np.float64)
        scores = self.centroid_share * centroid + (1.0 - self.centroid_share) * mean
        nearest_at = order[self.starts] - self.starts
        return Meaning(scores.round(6), nearest, nearest_at, self.tightness)


class MeaningIndex:
    """Vectors of views and queries; embeds of a view only the texts that were never seen."""

    def __init__(self, guard: EncoderGuard) -> None:
        self._guard = guard
        self._views: WeakKeyDictionary[CandidateView, DenseView] = WeakKeyDictionary()

    async def embed(self, question: Question, view: CandidateView) -> tuple[DenseView, Vector]:
        """Return the vectors of `view` and of `question`; raise `EncoderError` at the deadline."""

        async def ask() -> tuple[DenseView, Vector]:
            dense = await self._dense(view)
            vectors = await self._guard.embed_queries([text for text, _ in question.parts])
            return dense, _mean(vectors, [weight for _, weight in question.parts])

        return await self._guard.bounded(ask)

    async def prepare(self, view: CandidateView) -> None:
        """Embed the cards of `view`, however long that takes; raises `EncoderError`."""

        async def ask() -> None:
            await self._guard.embed_query("warm up")
            if view.candidates:
                await self._dense(view)

        await self._guard.bounded(ask, patient=True)

    async def _dense(self, view: CandidateView) -> DenseView:
        dense = self._views.get(view)
        if dense is None:
            vectors = await self._guard.embed_cards(view.texts)
            dense = await anyio.to_thread.run_sync(DenseView, view, vectors)
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
