"""From confidences to selections: rules first, then the session, thresholds, groups and weights."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from typing import NamedTuple

from intrinsic.card import AdapterCard
from intrinsic.routing.decision import Ranking
from intrinsic.routing.evidence import SHORTLIST
from intrinsic.routing.options import RouterOptions
from intrinsic.routing.rules import CardRules, Hits
from intrinsic.routing.stickiness import Last
from intrinsic.selection import Selection

NEAR = SHORTLIST
"""Who answered last in a session is looked for among this many of the best."""

MOST_TRIED = 64
"""Where thresholds and groups keep the best out, so many are tried besides those asked for."""


_MOST = 700.0  # whose exponential is still a number
_NOTHING = 1e-6  # a share of a mixture that changes no answer


class Fit(NamedTuple):
    """How sure it is that a row fits; `note` says what came to the evidence."""

    row: int
    confidence: float
    note: str = ""
    by_itself: bool = True
    """Whether it would be where it is without the session's bonus."""


@dataclass(frozen=True, eq=False)
class Choice:
    """Decides between the candidates of a `ranking`, without looking at more than it must.

    `excluded` rows have no place in it; `threshold` is what the request asks for in place of the
    router's own. In order: rows that a rule asks for, confidence 1, the
    longest phrase first and the greater score among equals; then the others as they rank, with
    the adapter that answered `last` in front if it was near; then, in `ranked` alone and
    with confidence 0, rows that a rule forbids.
    """

    ranking: Ranking
    rules: CardRules
    hits: Hits
    options: RouterOptions
    excluded: frozenset[int] = frozenset()
    last: Last | None = None
    threshold: float | None = None

    def chosen(self, top_k: int) -> list[tuple[Fit, float]]:
        """Return at most `top_k` that fit, best first, with weights that sum to 1.

        Each reaches its threshold: that of its card, or else the router's; where the request has
        one, the higher of that and its card's. Of one group only the best comes. After one that
        its own threshold kept out, which may well be the right one, the confidence of the rest is
        `c · (1 - c_refused)`.
        """
        least = self.threshold
        if least is None:
            least = self.rules.least_threshold(self.options.threshold)
        found: list[Fit] = []
        groups: set[str] = set()
        doubt = 1.0
        for fit in islice(self._fits(top_k), MOST_TRIED + top_k):
            confidence = fit.confidence * doubt
            if confidence < least:
                break
            group = self._cards[fit.row].group
            if group and group in groups:
                continue
            if confidence < self._threshold(fit.row):
                doubt *= 1.0 - fit.confidence
                continue
            groups.add(group)
            found.append(fit._replace(confidence=confidence))
            if len(found) == top_k:
                break
        weights = shares([fit.confidence for fit in found], self.options)
        return list(zip(found, weights, strict=False))

    def ranked(self, first: int | None = None) -> Iterator[Fit]:
        """Return the `first` rows, or all, best first."""
        forbidden = (
            Fit(row, 0.0, f'gets no text with "{phrase.text}" (never)')
            for row, phrase in sorted(self.hits.never.items())
            if row not in self.excluded
        )
        return islice(chain(self._fits(first or len(self._cards)), forbidden), first)

    def selections(self, first: int | None = None) -> list[Selection]:
        """Return the `first` candidates, or all; one that was given twice comes twice."""
        view = self.ranking.evidence.view
        times = Counter(view.rows) if len(view.rows) > len(view.cards) else {}
        found: list[Selection] = []
        for fit in self.ranked(first):
            found.extend([self.selection(fit, 0.0)] * times.get(fit.row, 1))
        return found[:first]

    def selection(self, fit: Fit, weight: float) -> Selection:
        """Return a fit as a selection that gives its reason."""
        asked = fit.row in self.hits.must or fit.row in self.hits.never
        notes = [fit.note] if asked else [self.ranking.reason(fit.row), fit.note]
        return Selection(
            adapter=self.ranking.evidence.view.labels[fit.row],
            confidence=fit.confidence,
            weight=weight,
            reason="; ".join(note for note in notes if note),
        )

    @cached_property
    def _others(self) -> Ranking:
        return self.ranking.without(self.excluded | self.hits.must.keys() | self.hits.never.keys())

    @property
    def _cards(self) -> Sequence[AdapterCard]:
        return self.ranking.evidence.view.cards

    def _threshold(self, row: int) -> float:
        return threshold_of(self._cards[row], self.options, self.threshold)

    def _fits(self, expected: int) -> Iterator[Fit]:
        """Best first; more than `expected` are looked at only when they are asked for."""
        asked = self._asked()
        for row in asked:
            yield Fit(row, 1.0, f'gets every text with "{self.hits.must[row].text}" (must)')
        given, count = 0, expected if self.last is None else max(expected, NEAR)
        while True:
            fits = [Fit(row, confidence) for row, confidence in self._others.leading(count)]
            if self.last is not None and not asked:
                fits = self._kept(fits, self.last)
            yield from fits[given:]
            if len(fits) < count:
                return
            given, count = len(fits), 4 * count

    def _asked(self) -> list[int]:
        """Rows that a rule asks for: the longer phrase first, then the higher score."""
        must = self.hits.must
        asked = sorted(row for row in must if row not in self.excluded)
        if len(asked) < 2:
            return asked
        scores = dict(zip(asked, self.ranking.scores(asked), strict=True))
        return sorted(asked, key=lambda row: (-must[row].n_words, -scores[row]))

    def _kept(self, fits: list[Fit], last: Last) -> list[Fit]:
        """Put who answered last in front, where its odds with the bonus are then the best.

        The odds are those that it is right and all before it are wrong,
        `p_k = c_k Π_{i<k} (1 - c_i)`; a bonus b makes them `e^b` times as large. It comes first
        where `p_k e^b >= c_0` and its confidence, `logit c = logit c_k + b`, reaches its threshold.
        """
        at = next((at for at, fit in enumerate(fits[:NEAR]) if self._is(fit.row, last)), None)
        if at is None:
            return fits
        fit = fits[at]
        alone = fit.confidence * math.prod(1.0 - before.confidence for before in fits[:at])
        confidence = raised(fit.confidence, last.bonus)
        first = at == 0 or alone * math.exp(min(last.bonus, _MOST)) >= fits[0].confidence
        if not first or confidence < self._threshold(fit.row):
            return fits
        by_itself = at == 0 and fit.confidence >= self._threshold(fit.row)
        note = f"answered last in this session (+{last.bonus:.2f} log-odds)"
        return [Fit(fit.row, confidence, note, by_itself), *fits[:at], *fits[at + 1 :]]

    def _is(self, row: int, last: Last) -> bool:
        return self._cards[row].key == last.adapter


def threshold_of(card: AdapterCard, options: RouterOptions, asked: float | None) -> float:
    """Return what a confidence must reach; `asked` is the request's threshold, if it has one."""
    own = card.threshold
    if asked is not None:
        return asked if own is None else max(asked, own)
    return options.threshold if own is None else own


def raised(confidence: float, bonus: float) -> float:
    """Return a probability with `bonus` on its log-odds; never or always stay what they are."""
    if confidence in (0.0, 1.0):
        return confidence
    log_odds = math.log(confidence) - math.log1p(-confidence) + bonus
    return 1.0 / (1.0 + math.exp(-max(log_odds, -_MOST)))


def shares(confidences: Sequence[float], options: RouterOptions) -> list[float]:
    """Return weights that sum to 1, for confidences with the greatest first.

    `w_i = c_i^(1/T) / Σ c_j^(1/T)`, the softmax of `ln c_i / T`: at T = 1 in proportion to the
    confidences. While the last has less than `min_weight`, or next to nothing, it is left out.
    """
    best = max(confidences, default=0.0)
    power = 1.0 / options.weight_temperature
    parts = [(value / best) ** power if best > 0.0 else 1.0 for value in confidences]
    while parts and parts[-1] < max(options.min_weight, _NOTHING) * sum(parts):
        parts.pop()
    return [part / sum(parts) for part in parts]
