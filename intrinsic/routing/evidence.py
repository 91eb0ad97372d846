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
from intrinsic.routing.gate_features import features_of
from intrinsic.routing.index import CandidateView, Rows
from intrinsic.routing.text import stems, stems_and_wording

Floats = npt.NDArray[np.float64]

SHORTLIST = 8
"""So many candidates are compared text by text; the others are out of the question."""

_AROUND_THE_LAST = np.array([-SHORTLIST - 1, -SHORTLIST])

LEAST_SPREAD = 1e-3
LEAST_COSINE_SPREAD = 0.02
LEAST_BM25_SPREAD = 0.5
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

    @classmethod
    def of(
        cls,
        view: CandidateView,
        text: str,
        meaning: Meaning | None = None,
        *,
        bm25_weight: float | None = None,
    ) -> Evidence:
        """Return what the words of `text`, and its `meaning`, say of each row."""
        if meaning is None or bm25_weight == 0.0:
            terms, wording = stems(text), None
        else:
            terms, worded = stems_and_wording(text)
            wording = view.weigh_wording(worded)
        words = view.weigh_words(terms)
        return cls(view, terms, words, meaning, wording, bm25_weight=bm25_weight)

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
        if len(first_look) - len(set(self._out)) > SHORTLIST:
            rows = first_look.argpartition(_AROUND_THE_LAST)
            listed = rows[-SHORTLIST:]
            if first_look[rows[-SHORTLIST - 1]] == first_look[listed[0]]:  # of equals the first
                listed = (-first_look).argsort(kind="stable")[:SHORTLIST]
            listed.sort()
            rows = listed
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
        found = self._ranked_features(listed, self._behind(listed, others))
        if others == 0 or (first is not None and first <= len(listed)):
            return found[:first]
        rest = self._ranked_features(self.order[len(listed) :], 0)
        return np.concatenate([found, rest])[:first]

    def _behind(self, listed: Rows, others: int) -> int:
        """How many rivals of the shortlist there are besides: a group is one, or none of them."""
        if others == 0 or not self.view.has_twins:
            return others
        groups = self.view.groups
        return len(np.setdiff1d(np.delete(groups, [*listed, *self._out]), groups[listed]))

    def _ranked_features(self, order: Rows, behind: int) -> Floats:
        """The features of rows in ranking order, compared among themselves."""
        if not self.view.has_twins:
            return features_of(self, order, behind)
        groups = self.view.groups[order]
        _, firsts, of_group = np.unique(groups, return_index=True, return_inverse=True)
        keep = np.sort(firsts)  # ranks of the groups' best rows
        matrix = features_of(self, order[keep], behind)
        return matrix[np.searchsorted(keep, firsts[of_group])]

    def undoubted(self, first: int | None = None) -> Floats:
        """What is left, in [0, 1], of the confidence in the `first` rows after their negatives.

        A negative example that is nearer than all else of a card by 0.05 leaves a third.
        """
        rows = self.leading(first)
        if self.meaning is None or not self.meaning.refuses:
            return np.ones(len(rows))
        left: Floats = np.exp(-DOUBT * self.meaning.refused[rows])
        return left

    def _sorted(self, rows: Rows) -> Rows:
        if self.meaning is not None:
            self.meaning.look(rows)
        found: Rows = rows[(-self._scores_of(rows).round(6)).argsort(kind="stable")]
        return found


def standardised(values: Floats, least_spread: float) -> Floats:
    """Return z-scores; a spread below `least_spread` is no reason to magnify differences."""
    away: Floats = values - float(np.add.reduce(values)) / len(values)
    away /= max(math.sqrt(float(away @ away) / len(values)), least_spread)
    return away


def spread(values: Floats) -> tuple[float, float]:
    """Return mean and standard deviation."""
    mean = float(np.add.reduce(values)) / len(values)
    away = values - mean
    return mean, math.sqrt(float(away @ away) / len(values))
