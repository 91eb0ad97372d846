"""What speaks for each candidate, and in which order that puts them."""

from __future__ import annotations

from collections.abc import Collection
from copy import copy

import numpy as np
import numpy.typing as npt

from intrinsic.routing.bm25 import Lexical
from intrinsic.routing.index import CandidateView, Rows
from intrinsic.routing.meaning import Meaning

Floats = npt.NDArray[np.float64]

LEAST_COSINE_SPREAD = 0.02
LEAST_BM25_SPREAD = 0.5
UNRELATED_COSINE = 0.1  # a rival that is always there, so that one candidate has a margin too


class Evidence:
    """The words' and the meaning's say on every row of a view; `meaning` may be missing.

    Of the ranking, a choice asks for no more than `leading`, `features` and `without`.
    """

    def __init__(
        self,
        view: CandidateView,
        terms: list[str],
        lexical: Lexical,
        meaning: Meaning | None = None,
        *,
        bm25_weight: float = 0.15,
    ) -> None:
        self.view = view
        self.terms = terms
        self.lexical = lexical
        self.meaning = meaning
        self.scores = self._combined(bm25_weight)  # (rows,)
        self.order: Rows = np.argsort(-self.scores.round(6), kind="stable")  # best first

    def _combined(self, bm25_weight: float) -> Floats:
        if self.meaning is None:
            return self.lexical.scores
        dense = standardised(self.meaning.scores, LEAST_COSINE_SPREAD)
        if bm25_weight == 0.0:
            return dense
        return dense + bm25_weight * standardised(self.lexical.scores, LEAST_BM25_SPREAD)

    def without(self, rows: Collection[int]) -> Evidence:
        """Return the same evidence without some rows: they have no rank and are no rivals."""
        if not rows:
            return self
        rest = copy(self)
        rest.order = self.order[~np.isin(self.order, list(rows))]
        return rest

    def leading(self, first: int | None = None) -> Rows:
        """Return the `first` rows in ranking order, or all."""
        return self.order[:first]

    def features(self, first: int | None = None) -> Floats:
        """Return what a gate judges the `first` rows by: `(rows, features)`, in ranking order.

        Each row is compared with those ranked behind it, as if those before it were not there;
        rows of one group (the same card under several names) are no rivals of each other.
        """
        groups = self.view.groups[self.order]
        _, firsts, of_group = np.unique(groups, return_index=True, return_inverse=True)
        keep = np.sort(firsts)  # ranks of the groups' best rows
        matrix = self._group_features(self.order[keep])
        return matrix[np.searchsorted(keep, firsts[of_group])][:first]

    def _group_features(self, rows: Rows) -> Floats:
        columns = [
            np.full(len(rows), np.log1p(min(len(set(self.terms)), 60))),
            np.log(np.arange(len(rows), 0, -1)),
            np.log1p(self.view.n_examples[rows]),
            self.lexical.covered[rows],
            _margins(self.lexical.covered[rows], 0.0),
            self.lexical.rarity[rows],
            np.log1p(self.lexical.scores[rows]),
            _margins(np.log1p(self.lexical.scores[rows]), 0.0),
        ]
        if self.meaning is not None:
            columns += [
                self.meaning.scores[rows],
                _margins(self.meaning.scores[rows], UNRELATED_COSINE),
                self.meaning.nearest[rows],
                _margins(self.meaning.nearest[rows], UNRELATED_COSINE),
                self.meaning.tightness[rows],
            ]
        return np.stack(columns, axis=1)


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
MEANING_FEATURES = ("cosine", "cosine_margin", "nearest", "nearest_margin", "tightness")


def standardised(values: Floats, least_spread: float) -> Floats:
    """Return z-scores; a spread below `least_spread` is no reason to magnify differences."""
    spread: Floats = (values - values.mean()) / max(float(values.std()), least_spread)
    return spread


def _margins(values: Floats, floor: float) -> Floats:
    behind = np.append(np.maximum.accumulate(values[::-1])[::-1][1:], floor)
    margins: Floats = values - np.maximum(behind, floor)
    return margins
