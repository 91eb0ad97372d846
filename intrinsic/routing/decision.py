"""From judged evidence to selections: who fits, with which weight, and why in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from intrinsic.routing.evidence import Evidence, Floats
from intrinsic.routing.gate import Gate
from intrinsic.routing.question import Question
from intrinsic.routing.text import stem, words
from intrinsic.selection import Selection

_EXAMPLE_CHARS = 60
_WORDS_SHOWN = 4


@dataclass(frozen=True, eq=False)
class Ranking:
    """Every candidate of one query, best first.

    The confidence of the first is the probability that it is right; that of a later one, that it
    would be right if those before it were not there, and never more than theirs.
    """

    question: Question
    evidence: Evidence
    gate: Gate
    note: str = ""

    def confidences(self, first: int | None = None) -> Floats:
        """Return how sure the gate is of the `first` rows in ranking order, or of all.

        Where there are words alone to go by, a row without a common word has none.
        """
        found = self.gate.probabilities(self.evidence.features(first))
        if self.evidence.meaning is None:
            found[self.evidence.scores[self.evidence.leading(first)] == 0.0] = 0.0
        return np.minimum.accumulate(found)

    def all(self, first: int | None = None) -> list[Selection]:
        """Return every candidate, or the first; given twice it comes twice. Weights are 0."""
        view = self.evidence.view
        rank_of = {int(row): rank for rank, row in enumerate(self.evidence.order)}
        ranks = sorted(rank_of[row] for row in view.rows)[:first]
        confidences = self.confidences()
        return [self._selection(rank, float(confidences[rank]), 0.0) for rank in ranks]

    def chosen(self, *, top_k: int, threshold: float, min_weight: float) -> list[Selection]:
        """Return those that fit: at most `top_k`, weighted by confidence, their sum 1."""
        kept = [float(value) for value in self.confidences(top_k) if value >= threshold]
        while len(kept) > 1 and kept[-1] < min_weight * sum(kept):
            kept.pop()
        total = sum(kept)
        return [
            self._selection(rank, value, value / total if total else 1.0)
            for rank, value in enumerate(kept)
        ]

    def _selection(self, rank: int, confidence: float, weight: float) -> Selection:
        row = int(self.evidence.order[rank])
        return Selection(
            adapter=self.evidence.view.labels[row],
            confidence=confidence,
            weight=weight,
            reason=self._reason(row),
        )

    def _reason(self, row: int) -> str:
        parts = [part for part in (self._nearness(row), self._words(row)) if part]
        reason = " and ".join(parts) or "has no word in common with it"
        return f"{reason} ({self.note})" if self.note else reason

    def _nearness(self, row: int) -> str:
        meaning = self.evidence.meaning
        if meaning is None:
            return ""
        cosine, at = meaning.nearest[row], int(meaning.nearest_at[row])
        if at == 0:
            return f"is nearest to its card (cosine {cosine:.2f})"
        example = " ".join(self.evidence.view.cards[row].examples[at - 1].split())
        if len(example) > _EXAMPLE_CHARS:
            example = example[: _EXAMPLE_CHARS - 3].rstrip() + "..."
        return f'is nearest to its example "{example}" (cosine {cosine:.2f})'

    def _words(self, row: int) -> str:
        shared = self.evidence.view.shared_words(row, self.evidence.terms)
        if not shared:
            return ""
        written = {stem(word): word for word in reversed(words(self.question.text))}
        shown = ", ".join(written.get(term, term) for term in shared[:_WORDS_SHOWN])
        return f"shares the word{'s' if len(shared) > 1 else ''} {shown}" + (
            f" and {len(shared) - _WORDS_SHOWN} more" if len(shared) > _WORDS_SHOWN else ""
        )
