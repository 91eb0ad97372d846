"""What cards demand: phrases that decide, thresholds of their own, groups; read once per view."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from intrinsic.routing.index import CandidateView
from intrinsic.routing.text import stem, words

Stems = tuple[str, ...]


class Phrase(NamedTuple):
    """A phrase of a card's `must` or `never`, as the card says it."""

    text: str
    n_words: int


class Hits(NamedTuple):
    """Rows whose phrases a question has, each with the longest of them."""

    must: Mapping[int, Phrase]
    never: Mapping[int, Phrase]


NO_HITS = Hits({}, {})


class CardRules:
    """The rules of a view's cards.

    A phrase matches where the stems of all its words, small ones included, follow one another
    in a text: "term of service" is in "the terms of service", not in "service terms", and "law" is
    not in "flawless". What a look-up takes depends on the text, not on how many cards there are.
    A phrase without a word matches nothing; `never` outdoes `must` of the same card.
    """

    def __init__(self, view: CandidateView) -> None:
        self._must: dict[Stems, list[tuple[int, Phrase]]] = {}
        self._never: dict[Stems, list[tuple[int, Phrase]]] = {}
        self._cards = view.cards
        for row, card in enumerate(view.cards):
            if card.must or card.never:
                _add(self._must, card.must, row)
                _add(self._never, card.never, row)
        self._lengths: dict[str, tuple[int, ...]] = {}  # of phrases, by their first stem
        for found in sorted({(p[0], len(p)) for p in (*self._must, *self._never)}):
            self._lengths[found[0]] = (*self._lengths.get(found[0], ()), found[1])
        own = [card.threshold for card in view.cards if card.threshold is not None]
        self._least = min(own, default=1.0)

    @cached_property
    def _rows(self) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = {}
        for row, card in enumerate(self._cards):
            for label in (card.name, card.key):
                rows.setdefault(label, []).append(row)
        return rows

    @property
    def has_phrases(self) -> bool:
        """Whether any card has a phrase to match."""
        return bool(self._lengths)

    def least_threshold(self, threshold: float) -> float:
        """Return a confidence below which no card can be chosen; `threshold` is the router's."""
        return min(self._least, threshold)

    def rows_of(self, labels: Iterable[str]) -> frozenset[int]:
        """Return the rows that are called so, by `name` (all versions) or by `name@version`."""
        return frozenset(row for label in labels for row in self._rows.get(label, ()))

    def match(self, texts: Iterable[str]) -> Hits:
        """Return which rows have a phrase that is in one of `texts`."""
        must: dict[int, Phrase] = {}
        never: dict[int, Phrase] = {}
        for said in dict.fromkeys(run for text in texts for run in self._runs(text)):
            for rows, rules in ((must, self._must), (never, self._never)):
                for row, phrase in rules.get(said, ()):
                    if row not in rows or phrase.n_words > rows[row].n_words:
                        rows[row] = phrase
        return Hits({row: phrase for row, phrase in must.items() if row not in never}, never)

    def _runs(self, text: str) -> Iterator[Stems]:
        """Runs of stems that begin and are as long as some phrase."""
        found = [stem(word) for word in words(text)]
        for at, first in enumerate(found):
            for length in self._lengths.get(first, ()):
                yield tuple(found[at : at + length])


def _add(rules: dict[Stems, list[tuple[int, Phrase]]], phrases: Sequence[str], row: int) -> None:
    for phrase in phrases:
        found = tuple(stem(word) for word in words(phrase))
        if found:
            text = " ".join(phrase.split())
            rules.setdefault(found, []).append((row, Phrase(text, len(found))))
