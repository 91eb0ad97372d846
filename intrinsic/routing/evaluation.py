"""What a router is worth on queries whose right adapter is known: the figures and their formulas.

Of each query it is known which adapter is right, or that none is (out of scope), which adapters
the router ranked first, and how sure it was of each. The decision is the first of them whose
confidence reaches the threshold, else "none".
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

BINS = 15
REFUSED_SHARE = 0.95
_CONFUSIONS = 20


@dataclass(frozen=True, slots=True)
class Answer:
    """What a router said of one query: labels, best first, with their confidences."""

    text: str
    right: str | None  # None where no adapter fits
    ranked: tuple[str, ...]
    confidences: tuple[float, ...]  # one per ranked label

    @property
    def first(self) -> str | None:
        """The best candidate, however sure; None where there was none."""
        return self.ranked[0] if self.ranked else None

    @property
    def confidence(self) -> float:
        """Of the first; 0 where there was none."""
        return self.confidences[0] if self.confidences else 0.0

    def decided(self, threshold: float, thresholds: Mapping[str, float]) -> str | None:
        """The first label whose confidence reaches its own threshold, or else the common one.

        As in routing, one that was refused casts doubt: the rest count `p · Π (1 - p_refused)`.
        """
        doubt = 1.0
        for label, p in zip(self.ranked, self.confidences, strict=True):
            if p * doubt >= thresholds.get(label, threshold):
                return label
            doubt *= 1.0 - p
        return None


class Confusion(NamedTuple):
    """A wrong decision, how often it was made, and the first query that it was made for."""

    right: str | None
    decided: str | None
    times: int
    example: str


class ReliabilityBin(NamedTuple):
    """Of the answers whose confidence lies in a bin: how many, how sure and how often right."""

    low: float
    high: float
    answers: int
    confidence: float  # mean, 0 where the bin is empty
    accuracy: float  # share that is right, 0 where the bin is empty


@dataclass(frozen=True, slots=True)
class Report:
    """Shares in [0, 1]; None where there was nothing to measure them on.

    - `top1`, `top2`, `top3`: of the in-scope queries, those whose adapter is among the first k.
    - `macro_f1`: of the decisions, `mean_c 2 TP_c / (2 TP_c + FP_c + FN_c)` over all labels that
      are right or decided somewhere, "none" among them.
    - `auroc`: that the first confidence of an in-scope query is above that of one out of scope.
    - `a95`: of the in-scope queries, those that are accepted and right when the threshold is the
      least that refuses 95 % of the queries out of scope.
    - `e2e`: of all queries, those decided right: the right adapter, or none where none fits.
    - `ece`: `Σ_b n_b / n · |accuracy_b - confidence_b|` over 15 bins of equal width of the first
      confidence, against whether the first is right (Naeini et al. 2015).
    """

    queries: int
    in_scope: int
    out_of_scope: int
    threshold: float
    top1: float | None
    top2: float | None
    top3: float | None
    macro_f1: float | None
    auroc: float | None
    a95: float | None
    e2e: float | None
    ece: float | None
    confusions: tuple[Confusion, ...]  # the most frequent first
    reliability: tuple[ReliabilityBin, ...]


def measure(
    answers: Sequence[Answer],
    *,
    threshold: float = 0.5,
    thresholds: Mapping[str, float] | None = None,
) -> Report:
    """Return the figures of `answers`; `thresholds` are those of labels that have their own."""
    p = np.array([answer.confidence for answer in answers], np.float64)
    in_scope = np.array([answer.right is not None for answer in answers], np.bool_)
    places = [_place(answer) for answer in answers if answer.right is not None]
    first_right = np.array([_place(answer) == 0 for answer in answers], np.bool_)
    decided = [answer.decided(threshold, thresholds or {}) for answer in answers]
    right = [answer.right for answer in answers]
    both = bool(in_scope.any()) and not bool(in_scope.all())
    return Report(
        queries=len(answers),
        in_scope=len(places),
        out_of_scope=len(answers) - len(places),
        threshold=threshold,
        top1=_share([place < 1 for place in places]),
        top2=_share([place < 2 for place in places]),
        top3=_share([place < 3 for place in places]),
        macro_f1=macro_f1(right, decided) if answers else None,
        auroc=auroc(p, in_scope) if both else None,
        a95=accepted_and_right(p, first_right, in_scope) if both else None,
        e2e=_share([one == other for one, other in zip(right, decided, strict=True)]),
        ece=calibration_error(p, first_right) if answers else None,
        confusions=_confusions(answers, decided),
        reliability=reliability(p, first_right),
    )


def auroc(scores: Floats, truth: Bools) -> float:
    """Return the chance that a true row scores above a false one; ties count half.

    NaN where all rows are true, or none is.
    """
    _, rank, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = (np.cumsum(counts) - (counts - 1) / 2.0)[rank]
    n_true = int(truth.sum())
    n_false = len(truth) - n_true
    if not n_true or not n_false:
        return float("nan")
    return float((mean_rank[truth].sum() - n_true * (n_true + 1) / 2) / (n_true * n_false))


def calibration_error(p: Floats, truth: Bools, *, bins: int = BINS) -> float:
    """Return the expected calibration error over `bins` of equal width (Naeini et al. 2015)."""
    found = reliability(p, truth, bins=bins)
    return sum(one.answers / len(p) * abs(one.accuracy - one.confidence) for one in found)


def reliability(p: Floats, truth: Bools, *, bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """Return for each of `bins` of equal width how sure and how often right; 1 is in the last."""
    at = np.clip((p * bins).astype(int), 0, bins - 1)
    found = []
    for number in range(bins):
        inside = at == number
        count = int(inside.sum())
        sure, right = (float(p[inside].mean()), float(truth[inside].mean())) if count else (0, 0)
        found.append(ReliabilityBin(number / bins, (number + 1) / bins, count, sure, right))
    return tuple(found)


def macro_f1(right: Sequence[str | None], decided: Sequence[str | None]) -> float:
    """Return the mean F1 of all labels that are right or decided somewhere; None is a label."""
    hits = Counter(one for one, other in zip(right, decided, strict=True) if one == other)
    wanted, given = Counter(right), Counter(decided)
    labels = wanted.keys() | given.keys()
    return sum(2 * hits[label] / (wanted[label] + given[label]) for label in labels) / len(labels)


def accepted_and_right(
    p: Floats, right: Bools, in_scope: Bools, *, refused: float = REFUSED_SHARE
) -> float:
    """Return a95: the in-scope share above the `refused` share of the out-of-scope confidences."""
    outside = np.sort(p[~in_scope])
    limit = outside[math.ceil(refused * len(outside)) - 1]
    return float((right & (p > limit))[in_scope].mean())


def _place(answer: Answer) -> int:
    """How many labels were ranked before the right one; beyond all where it is not among them."""
    if answer.right is None or answer.right not in answer.ranked:
        return len(answer.ranked) + 3
    return answer.ranked.index(answer.right)


def _share(hits: Sequence[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None


def _confusions(answers: Sequence[Answer], decided: Sequence[str | None]) -> tuple[Confusion, ...]:
    examples: dict[tuple[str | None, str | None], str] = {}
    counts: Counter[tuple[str | None, str | None]] = Counter()
    for answer, label in zip(answers, decided, strict=True):
        if answer.right != label:
            counts[answer.right, label] += 1
            examples.setdefault((answer.right, label), answer.text)
    return tuple(
        Confusion(*pair, count, examples[pair]) for pair, count in counts.most_common(_CONFUSIONS)
    )
