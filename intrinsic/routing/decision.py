"""From evidence to confidences in ranking order, and why in words."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from intrinsic.routing.calibration import Calibration
from intrinsic.routing.evidence import Evidence, Floats
from intrinsic.routing.gate import Gate
from intrinsic.routing.question import Question
from intrinsic.routing.text import stem, words

_EXAMPLE_CHARS = 60
_WORDS_SHOWN = 4
_DIGITS = 9  # of a confidence; what depends on how many rows are looked at lies below


@dataclass(frozen=True, eq=False)
class Ranking:
    """Every candidate of one question, best first.

    The confidence of the first is the probability that it is right; that of a later one, that it
    would be right if those before it were not there, and never more than theirs.
    """

    question: Question
    evidence: Evidence
    gate: Gate
    note: str = ""
    calibration: Calibration | None = None

    def without(self, rows: Collection[int]) -> Ranking:
        """Return the ranking of all but some rows, which are no rivals of the others either."""
        return replace(self, evidence=self.evidence.without(rows)) if rows else self

    def leading(self, first: int | None = None) -> list[tuple[int, float]]:
        """Return the `first` rows, or all, each with its confidence."""
        rows = self.evidence.leading(first)
        if len(rows) == 0:
            return []
        return list(zip(rows.tolist(), self.confidences(first).tolist(), strict=True))

    def confidences(self, first: int | None = None) -> Floats:
        """Return how sure the gate is of the `first` rows in ranking order, or of all.

        Where there are words alone to go by, a row without a common word has none.
        """
        found = self.gate.probabilities(self.evidence.features(first))
        if self.calibration is not None:
            found = self.calibration.applied(found)
        found *= self.evidence.undoubted(first)
        if self.evidence.meaning is None:
            found[self.evidence.scores[self.evidence.leading(first)] == 0.0] = 0.0
        return np.minimum.accumulate(found.round(_DIGITS))

    def scores(self, rows: Sequence[int]) -> list[float]:
        """Return what rows are ordered by."""
        return [round(float(score), 6) for score in self.evidence.scores[list(rows)]]

    def reason(self, row: int) -> str:
        """Return what speaks for a row, in words."""
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

    @cached_property
    def _written(self) -> dict[str, str]:
        """The words of the question by their stems."""
        return {stem(word): word for word in reversed(words(self.question.text))}

    def _words(self, row: int) -> str:
        shared = self.evidence.view.shared_words(row, self.evidence.terms)
        if not shared:
            return ""
        shown = ", ".join(self._written.get(term, term) for term in shared[:_WORDS_SHOWN])
        return f"shares the word{'s' if len(shared) > 1 else ''} {shown}" + (
            f" and {len(shared) - _WORDS_SHOWN} more" if len(shared) > _WORDS_SHOWN else ""
        )
