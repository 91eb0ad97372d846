"""What speaks for each candidate, and in which order that puts them."""

from __future__ import annotations

import math
from collections.abc import Collection
from copy import copy
from functools import cached_property

import numpy as np
import numpy.typing as npt

from intrinsic.routing.bm25 import Lexical
from intrinsic.routing.dense import Meaning
from intrinsic.routing.index import CandidateView, Rows

Floats = npt.NDArray[np.float64]

SHORTLIST = 16
"""So many candidates are compared text by text; the others are out of the question."""

LEAST_SPREAD = 1e-3
LEAST_COSINE_SPREAD = 0.02
LEAST_BM25_SPREAD = 0.5
UNRELATED_COSINE = 0.1  # a rival that is always there, so that one candidate has a margin too
MOST_MARGIN = 10.0
SOFTER = 4.0  # a second share, of scores divided by this
REFUSAL = 10.0
"""What a negative example costs for each unit of cosine that it is nearer than all others."""


DOUBT = 22.0
"""In the same units, what it takes from the logarithm of the confidence."""


class Evidence:
    """The words' and the meaning's say on every row of a view; `meaning` may be missing.

    Of the ranking, a choice asks for no more than `leading`, `features` and `without`. The order
    is by `z(head) + near · cosine / σ + words · z(BM25)`, weights by the view's blend;
    `bm25_weight` replaces that of the words, which are all words and pairs of them where `wording`
    says how these score. Without a meaning, it is by BM25 alone.
    """

    def __init__(
        self,
        view: CandidateView,
        terms: list[str],
        lexical: Lexical,
        meaning: Meaning | None = None,
        wording: Floats | None = None,
        *,
        bm25_weight: float | None = None,
    ) -> None:
        self.view = view
        self.terms = terms
        self.lexical = lexical
        self.meaning = meaning
        self._out: tuple[int, ...] = ()
        if meaning is None:
            self._first_look = lexical.scores
            return
        self.words_weight = meaning.blend.words if bm25_weight is None else bm25_weight
        self.linear = standardised(meaning.linear, LEAST_SPREAD)
        scores = lexical.scores if wording is None else wording
        self.words = standardised(scores, LEAST_BM25_SPREAD)
        self._mean, deviation = spread(meaning.cosines)
        self._spread = max(deviation, LEAST_COSINE_SPREAD)
        self._first_look = self.linear + self.words_weight * self.words

    def without(self, rows: Collection[int]) -> Evidence:
        """Return the same evidence without some rows: they have no rank and are no rivals."""
        if not rows:
            return self
        rest = copy(self)
        for name in ("shortlist", "order"):
            vars(rest).pop(name, None)
        rest._out = (*self._out, *rows)
        return rest

    @cached_property
    def shortlist(self) -> Rows:
        """The rows that are compared text by text, best first."""
        first_look = self._first_look
        if self._out:
            first_look = first_look.copy()
            first_look[list(self._out)] = -np.inf
        left = len(first_look) - len(set(self._out))
        if left > SHORTLIST:
            rows = np.sort(np.argpartition(-first_look, SHORTLIST)[:SHORTLIST])
        else:
            rows = np.flatnonzero(first_look > -np.inf)
        return self._sorted(rows)

    @cached_property
    def order(self) -> Rows:
        """All rows but those that are out: the shortlist, then the others, best first."""
        rest = np.ones(len(self._first_look), np.bool_)
        rest[self.shortlist] = False
        rest[list(self._out)] = False
        return np.concatenate([self.shortlist, self._sorted(np.flatnonzero(rest))])

    @property
    def scores(self) -> Floats:
        """What rows are ordered by; of a row that was not looked at, without its texts."""
        if self.meaning is None:
            return self._first_look
        return self._scores_of(slice(None))

    def _scores_of(self, rows: Rows | slice) -> Floats:
        if self.meaning is None:
            return self._first_look[rows]
        near = (self.meaning.scores[rows] - self._mean) * (self.meaning.blend.near / self._spread)
        found: Floats = self._first_look[rows] + near
        if self.meaning.refuses:
            found -= REFUSAL * self.meaning.refused[rows]
        return found

    def nearness(self) -> Floats:
        """The cosines to each row's texts, in units of the spread of those to the centroids."""
        assert self.meaning is not None
        return (self.meaning.scores - self._mean) / self._spread

    def leading(self, first: int | None = None) -> Rows:
        """Return the `first` rows in ranking order, or all."""
        if first is not None and first <= len(self.shortlist):
            return self.shortlist[:first]
        return self.order[:first]

    def features(self, first: int | None = None) -> Floats:
        """Return what a gate judges the `first` rows by: `(rows, features)`, in ranking order.

        Each row is compared with those ranked behind it, as if those before it were not there,
        those of the shortlist among themselves and the others too, however many are asked for;
        rows of one group (the same card under several names) are no rivals of each other.
        """
        listed = self.shortlist
        others = len(self._first_look) - len(set(self._out)) - len(listed)
        found = self._ranked_features(listed, others)
        if others == 0 or (first is not None and first <= len(listed)):
            return found[:first]
        rest = self._ranked_features(self.order[len(listed) :], 0)
        return np.concatenate([found, rest])[:first]

    def _ranked_features(self, order: Rows, behind: int) -> Floats:
        """The features of rows in ranking order, compared among themselves."""
        if not self.view.has_twins:
            return self._group_features(order, behind)
        groups = self.view.groups[order]
        _, firsts, of_group = np.unique(groups, return_index=True, return_inverse=True)
        keep = np.sort(firsts)  # ranks of the groups' best rows
        matrix = self._group_features(order[keep], behind)
        return matrix[np.searchsorted(keep, firsts[of_group])]

    def undoubted(self, first: int | None = None) -> Floats:
        """What is left, in [0, 1], of the confidence in the `first` rows after their negatives.

        A negative example that is nearer than all else of a card by 0.05 leaves a third.
        """
        rows = self.leading(first)
        if self.meaning is None:
            return np.ones(len(rows))
        left: Floats = np.exp(-DOUBT * self.meaning.refused[rows])
        return left

    def _sorted(self, rows: Rows) -> Rows:
        if self.meaning is not None:
            self.meaning.look(rows)
        found: Rows = rows[np.argsort(-self._scores_of(rows).round(6), kind="stable")]
        return found

    def _group_features(self, rows: Rows, behind: int) -> Floats:
        """`behind` is how many candidates follow that are not among `rows`."""
        lexical, meaning = self.lexical, self.meaning
        found = np.empty((len(rows), len(WORD_FEATURES) + len(MEANING_FEATURES)))
        found[:, 0] = np.log1p(min(len(set(self.terms)), 60))
        found[:, 1] = np.log(np.arange(len(rows) + behind, behind, -1))
        found[:, 2] = np.log1p(self.view.n_examples[rows])
        found[:, 3] = lexical.covered[rows]
        found[:, 5] = lexical.rarity[rows]
        found[:, 6] = np.log1p(lexical.scores[rows])
        if meaning is None:
            found[:, [4, 7]] = _margins(found[:, [3, 6]], 0.0)
            return found[:, : len(WORD_FEATURES)]
        linear = meaning.linear[rows]
        found[:, 8] = meaning.scores[rows]
        found[:, 10] = meaning.nearest[rows]
        found[:, 12] = meaning.tightness[rows]
        found[:, 13] = meaning.cosines[rows]
        found[:, 14] = linear
        found[:, 15] = linear / SOFTER
        found[:, 17] = self.linear[rows]
        found[:, [4, 7, 9, 11, 16]] = _margins(found[:, [3, 6, 8, 10, 14]], _FLOORS)
        np.clip(found[:, 16], -MOST_MARGIN, MOST_MARGIN, out=found[:, 16])
        found[:, 14:16] = _shares(found[:, 14:16])
        return found


WORD_FEATURES = (
    "log_words",
    "log_candidates",
    "log_examples",
    "covered",
    "covered_margin",
    "rarity",
    "log_bm25",
    "log_bm25_margin",
)
MEANING_FEATURES = (
    "cosine",
    "cosine_margin",
    "nearest",
    "nearest_margin",
    "tightness",
    "centroid",
    "share",
    "soft_share",
    "head_margin",
    "head",
)


_FLOORS = np.array([0.0, 0.0, UNRELATED_COSINE, UNRELATED_COSINE, -np.inf])


def standardised(values: Floats, least_spread: float) -> Floats:
    """Return z-scores; a spread below `least_spread` is no reason to magnify differences."""
    away: Floats = values - values.sum() / len(values)
    away /= max(math.sqrt(float(away @ away) / len(values)), least_spread)
    return away


def spread(values: Floats) -> tuple[float, float]:
    """Return mean and standard deviation."""
    mean = float(values.sum()) / len(values)
    away = values - mean
    return mean, math.sqrt(float(away @ away) / len(values))


def _margins(values: Floats, floor: Floats | float) -> Floats:
    """By how much each row is above the best behind it, by column, and above the floor."""
    behind = np.empty_like(values)
    behind[:-1] = np.maximum.accumulate(values[::-1])[-2::-1]
    behind[-1] = floor
    margins: Floats = values - np.maximum(behind, floor)
    return margins


def _shares(values: Floats) -> Floats:
    """`exp(v_i) / Σ exp(v_j)` over j at and behind i, by column."""
    up = np.exp(values - values.max(0))
    shares: Floats = up / np.maximum(np.cumsum(up[::-1], 0)[::-1], 1e-300)
    return shares
