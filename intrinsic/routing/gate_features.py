"""What a gate judges a candidate by: its evidence, and how far it is above those behind it."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import numpy.typing as npt

from intrinsic.routing.bm25 import Lexical
from intrinsic.routing.dense import Meaning
from intrinsic.routing.index import CandidateView, Rows

Floats = npt.NDArray[np.float64]

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

UNRELATED_COSINE = 0.1  # a rival that is always there, so that one candidate has a margin too
MOST_MARGIN = 10.0
_MOST_WORDS = 60
SOFTER = 4.0  # a second share, of scores divided by this

_FLOORS = np.array([0.0, 0.0, UNRELATED_COSINE, UNRELATED_COSINE, -np.inf])


class Weighed(Protocol):
    """What is asked of an `Evidence`."""

    view: CandidateView
    terms: list[str]
    lexical: Lexical
    meaning: Meaning | None
    linear: Floats


def features_of(evidence: Weighed, rows: Rows, behind: int) -> Floats:
    """Return `(rows, features)` of rows in ranking order, compared among themselves.

    `behind` is how many candidates follow that are not among them.
    """
    lexical, meaning, view = evidence.lexical, evidence.meaning, evidence.view
    n = len(rows)
    found = np.empty((len(WORD_FEATURES) + len(MEANING_FEATURES), n))
    found[0] = math.log1p(min(len(set(evidence.terms)), _MOST_WORDS))
    found[1] = view.log_counts[behind : behind + n][::-1]
    found[2] = view.log_examples[rows]
    found[3] = covered = lexical.covered[rows]
    found[5] = lexical.rarity[rows]
    found[6] = bm25 = np.log1p(lexical.scores[rows])
    if meaning is None:
        found[[4, 7]] = _margins(np.array([covered, bm25]), _FLOORS[:2])
        return found[: len(WORD_FEATURES)].T
    found[8] = scores = meaning.scores[rows]
    found[10] = nearest = meaning.nearest[rows]
    found[12] = meaning.tightness[rows]
    found[13] = meaning.cosines[rows]
    found[14] = linear = meaning.linear[rows]
    found[15] = linear / SOFTER
    found[17] = evidence.linear[rows]
    margins = _margins(np.array([covered, bm25, scores, nearest, linear]), _FLOORS)
    np.maximum(np.minimum(margins[4], MOST_MARGIN), -MOST_MARGIN, out=margins[4])
    found[_MARGINS] = margins
    _to_shares(found[14:16])
    return found.T


_MARGINS = [4, 7, 9, 11, 16]


def _margins(values: Floats, floors: Floats) -> Floats:
    """By how much each is above the best behind it in its row, and above the row's floor."""
    least = np.empty_like(values)
    np.maximum.accumulate(values[:, :0:-1], axis=1, out=least[:, -2::-1])
    least[:, -1] = floors
    margins: Floats = values - np.maximum(least, floors[:, None], out=least)
    return margins


def _to_shares(values: Floats) -> None:
    """Replace each by `exp(v_i) / Σ exp(v_j)` over j at and behind i in its row."""
    values -= np.maximum.reduce(values, axis=1, keepdims=True)
    np.exp(values, out=values)
    behind = np.add.accumulate(values[:, ::-1], axis=1)[:, ::-1]
    values /= np.maximum(behind, 1e-300)
