"""The vectors of a set of candidates, and what a query's vector says of them."""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_

import numpy as np
import numpy.typing as npt

from intrinsic.routing.blend import Blend, usual
from intrinsic.routing.card_vectors import CardVectors
from intrinsic.routing.head import ClosedForm, Head, Texts, closed_form
from intrinsic.routing.index import CandidateView, Rows
from intrinsic.routing.router import Vectors
from intrinsic.routing.vector_cache import Vector

Floats = npt.NDArray[np.float64]

NEAREST = 3
LEAST_CENTROID_SHARE = 0.25
_DIGITS = 6
_AT_ONCE = 256  # rows in one table, which is as wide as the longest card
_NONE = -2.0  # below every cosine
_NARROW = 32  # texts of the longest card, up to which all tables may be as wide
_COPIED = 512  # texts up to which one product of a copy is quicker than a product per card
_ROWS = np.arange(_AT_ONCE)


class DenseView:
    """The vectors of a `CandidateView`, one `CardVectors` per row, and the head over them.

    `judge`, the head and the blend, is replaced as one when better ones are fitted. Where `before`
    has the first cards, only the others are gathered.
    """

    def __init__(
        self,
        view: CandidateView,
        cards: Sequence[CardVectors],
        before: DenseView | None = None,
    ) -> None:
        self.cards = tuple(cards)
        old = before if before is not None and _begins(self.cards, before.cards) else None
        new = self.cards[0 if old is None else len(old.cards) :]
        self.n_examples = view.n_examples
        self.sizes: Rows = np.array([len(card.positive) for card in new], np.intp)
        self.n_own: Rows = np.array([card.n_own for card in new], np.intp)
        self.tightness: Floats = np.array([card.tightness for card in new], np.float64)
        self.has_negatives = any(len(card.negative) for card in new)
        centroids = [card.centroid for card in new]
        if old is not None:
            self.sizes = np.concatenate([old.sizes, self.sizes])
            self.n_own = np.concatenate([old.n_own, self.n_own])
            self.tightness = np.concatenate([old.tightness, self.tightness])
            self.has_negatives |= old.has_negatives
            centroids = [old.centroids, *centroids]
        self.centroids: Vectors = np.vstack(centroids)  # (rows, d)
        self.least_size, widest = int(self.sizes.min()), max(int(self.sizes.max()), NEAREST)
        self._filled = np.arange(widest) < self.sizes[:, None] if widest <= _NARROW else None
        few = 5.0 / (5.0 + self.n_examples.astype(np.float64))
        self.centroid_share: Floats = LEAST_CENTROID_SHARE + (1.0 - LEAST_CENTROID_SHARE) * few
        self.unfit = False  # whether a head is worth fitting, and none was yet
        self.twin_of = _twin_of(view)
        head = closed_form(self.centroids)
        self.judge = (head, usual(self.n_examples, fitted=False, worded=view.phrases is not None))

    @property
    def judge(self) -> tuple[Head | ClosedForm, Blend]:
        """What the meaning of a query is judged by."""
        return self.judged[0]

    @judge.setter
    def judge(self, judge: tuple[Head | ClosedForm, Blend]) -> None:
        head = judge[0]
        rows = np.concatenate([self.centroids, head.W]) if head.fitted else self.centroids
        self.judged = (judge, rows)  # one product gives the cosines and the head's say

    def weigh(self, query: Vector) -> Meaning:
        """Return how near `query` (a unit vector) is to each row."""
        return Meaning(self, query)

    def filled(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Where a table of some rows' texts, a line each, has one: at least three columns."""
        if self._filled is not None:
            return self._filled.take(rows, 0)
        sizes = self.sizes[rows]
        return np.arange(max(int(sizes.max()), NEAREST)) < sizes[:, None]

    def texts(self) -> Texts:
        """All vectors in one matrix, as a head is fitted on them; this copies them."""
        sizes = [len(card.positive) for card in self.cards]
        return Texts(
            np.concatenate([card.positive for card in self.cards]),
            np.repeat(np.arange(len(self.cards)), sizes),
            np.concatenate([card.weights for card in self.cards]),
            len(self.cards),
        )


class Meaning:
    """What the vector of a query says of each row of a view.

    `linear` and `cosines` (to the centroid) are there for all rows; `nearest` (the cosine to the
    nearest of the card's texts), `nearest_at` (0 is the card itself, 1 its first example),
    `refused` (by how much a negative example is nearer) and `scores` (near a cosine) are those of
    the rows that were looked at; before, the centroid stands for them.
    """

    def __init__(self, dense: DenseView, query: Vector) -> None:
        self._dense = dense
        self._query = query
        (head, self.blend), matrix = dense.judged
        found = (matrix @ query).astype(np.float64)
        n = len(dense.cards)
        self.cosines: Floats = found[:n]
        self.linear: Floats = found[n:] + head.b if head.fitted else head.score(query, found)
        self._twin_of = dense.twin_of
        if self._twin_of is not None:  # a product may give equal rows other last digits
            self.cosines, self.linear = self.cosines[self._twin_of], self.linear[self._twin_of]
        self.tightness = dense.tightness
        self.refuses = dense.has_negatives
        self.scores: Floats = self.cosines.round(_DIGITS)
        self.nearest: Floats = self.scores.copy()
        self.nearest_at: Rows = np.zeros(len(self.scores), np.intp)
        self.refused: Floats = np.zeros(len(self.scores))
        self._looked = np.zeros(len(self.scores), np.bool_)

    def look(self, rows: Rows) -> None:
        """Compare the query with every text of some rows."""
        if self._twin_of is not None:
            twins, rows = rows, np.unique(self._twin_of[rows])
        rows = rows[~self._looked[rows]]
        for at in range(0, len(rows), _AT_ONCE):
            self._look(rows[at : at + _AT_ONCE])
        if self._twin_of is not None:
            for found in (self.scores, self.nearest, self.nearest_at, self.refused):
                found[twins] = found[self._twin_of[twins]]

    def _look(self, rows: Rows) -> None:
        self._looked[rows] = True
        dense = self._dense
        cards = [dense.cards[row] for row in rows.tolist()]
        sizes = dense.sizes[rows]
        filled = dense.filled(rows)
        table: Floats = np.full(filled.shape, _NONE)
        table[filled] = self._products(cards).astype(np.float64).round(_DIGITS)
        at = table.argmax(1)
        self.nearest[rows] = table[_ROWS[: len(rows)], at]
        self.nearest_at[rows] = np.maximum(at - dense.n_own[rows] + 1, 0)
        table.partition(table.shape[1] - NEAREST, axis=1)
        best = table[:, -NEAREST:]
        if dense.least_size >= NEAREST:
            mean = np.add.reduce(best, 1) / NEAREST
        else:
            best[best == _NONE] = 0.0
            mean = best.sum(1) / np.minimum(sizes, NEAREST)
        share = dense.centroid_share[rows]
        self.scores[rows] = (mean + share * (self.cosines[rows] - mean)).round(_DIGITS)
        if self.refuses:
            self._refuse(rows, cards)

    def _products(self, cards: Sequence[CardVectors]) -> Vectors:
        """The cosines to all texts of some cards: `(texts,)`, card by card."""
        if sum(len(card.positive) for card in cards) <= _COPIED:
            return np.concatenate([card.positive for card in cards]) @ self._query
        return np.concatenate([card.positive @ self._query for card in cards])

    def _refuse(self, rows: Rows, cards: Sequence[CardVectors]) -> None:
        for row, card in zip(rows, cards, strict=True):
            if len(card.negative):
                against = float((card.negative @ self._query).max())
                self.refused[row] = max(0.0, against - self.nearest[row])


def _begins(cards: tuple[CardVectors, ...], first: tuple[CardVectors, ...]) -> bool:
    return len(first) <= len(cards) and all(map(is_, first, cards))


def _twin_of(view: CandidateView) -> Rows | None:
    """For each row the first of the same texts; None where every row is its own."""
    if not view.has_twins:
        return None
    known: dict[object, int] = {}  # the sentence of a card that says nothing else is its name
    said = zip(view.groups.tolist(), (card.sentence for card in view.cards), strict=True)
    firsts = [known.setdefault(content, row) for row, content in enumerate(said)]
    return np.array(firsts, np.intp) if len(known) < len(firsts) else None
