"""The vectors of one card: of its own texts, of its examples, and of its negative examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from intrinsic.card import AdapterCard
from intrinsic.routing.head import units
from intrinsic.routing.router import Vectors
from intrinsic.routing.vector_cache import Vector

CARD_COUNTS_AS = 2.0
"""A card's own texts stand for this many examples in the centroid."""


@dataclass(frozen=True, eq=False)
class CardVectors:
    """Unit vectors: `positive (texts, d)`, of the card's own texts first; `negative (n, d)`.

    `centroid (d,)` is the unit vector of their weighted sum, `tightness` their mean cosine to it.
    """

    positive: Vectors
    negative: Vectors
    weights: npt.NDArray[np.float32]  # (texts,)
    n_own: int
    centroid: Vector
    tightness: float

    @classmethod
    def of(cls, card: AdapterCard, vectors: Vectors) -> CardVectors:
        """Build from the vectors of `texts_of(card)`, in that order."""
        n_own, n_negative = len(own_texts(card)), len(card.negatives)
        positive = np.ascontiguousarray(vectors[: len(vectors) - n_negative])
        weights = np.ones(len(positive), np.float32)
        if n_own == 1:
            weights[0] = CARD_COUNTS_AS
        else:  # the sentence counts as much as its two halves together
            weights[0] = CARD_COUNTS_AS / 2
            weights[1:n_own] = CARD_COUNTS_AS / 2 / (n_own - 1)
        negative = np.ascontiguousarray(vectors[len(positive) :])
        return cls._around(positive, negative, weights, n_own)

    def with_examples(self, shown: Sequence[int]) -> CardVectors:
        """Return those of the same card with some of its examples alone."""
        at = [*range(self.n_own), *(self.n_own + n for n in shown)]
        return self._around(self.positive[at], self.negative, self.weights[at], self.n_own)

    @classmethod
    def _around(
        cls,
        positive: Vectors,
        negative: Vectors,
        weights: npt.NDArray[np.float32],
        n_own: int,
    ) -> CardVectors:
        centroid: Vector = units(weights @ positive)
        tightness = float((positive @ centroid).mean())
        return cls(positive, negative, weights, n_own, centroid, tightness)


def own_texts(card: AdapterCard) -> tuple[str, ...]:
    """What a card says of itself: its sentence, and domain and description apart if it has both.

    With the three of them 78.4 % of CLINC150's train queries find the right of 150 cards, with the
    sentence alone 77.1 %.
    """
    if card.domain and card.description:
        return (card.sentence, card.domain, card.description)
    return (card.sentence,)


def texts_of(card: AdapterCard) -> tuple[str, ...]:
    """Every text of a card that is embedded: its own, its examples, its negative examples."""
    return (*own_texts(card), *card.examples, *card.negatives)
