"""What is known of a set of candidates: kept by the content of their cards.

A card that was seen before costs nothing again; a changed card is a new card. Adapters that
were registered since the last call are in, those that were removed are out (the candidates of
the call are all that counts).
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from intrinsic.card import AdapterCard
from intrinsic.routing.bm25 import Bm25Index, Counts, Floats, Lexical
from intrinsic.routing.text import stems, wording

Rows = npt.NDArray[np.intp]

MOST_WORDED = 1000
"""Of more candidates than this the wording is not indexed: a million pairs of words."""

FIELD_COUNTS_AS = 2.0
"""A word of a card's own fields counts as often as this many in its examples."""


@dataclass(frozen=True, eq=False)
class CandidateView:
    """The candidates of a call; a row is a card, and a card that was given twice has one row."""

    candidates: tuple[AdapterCard, ...]
    bm25: Bm25Index
    phrases: Bm25Index | None = None  # of the wording; None where candidates are many

    @cached_property
    def cards(self) -> tuple[AdapterCard, ...]:
        """The distinct cards, in the order of the candidates: one per row."""
        return tuple(dict.fromkeys(self.candidates))

    @cached_property
    def rows(self) -> tuple[int, ...]:
        """The row of each candidate."""
        row_of = {card: row for row, card in enumerate(self.cards)}
        return tuple(row_of[card] for card in self.candidates)

    @cached_property
    def groups(self) -> Rows:
        """A number per row; rows that say the same of different names have the same."""
        known: dict[object, int] = {}
        return np.array([known.setdefault(_content(card), len(known)) for card in self.cards])

    @cached_property
    def has_twins(self) -> bool:
        """Whether any two rows may say the same; found without reading all that they say."""
        if len({card.description for card in self.cards}) == len(self.cards):
            return False
        said = {
            (card.domain, card.description, card.keywords, card.examples[:1])
            if card.domain or card.description or card.keywords or card.examples
            else card.name
            for card in self.cards
        }
        return len(said) < len(self.cards)

    @cached_property
    def n_examples(self) -> Rows:
        """How many examples each row has."""
        return np.array([len(card.examples) for card in self.cards], np.intp)

    @cached_property
    def log_examples(self) -> Floats:
        """`ln(1 + examples)` of each row."""
        return np.log1p(self.n_examples)

    @cached_property
    def log_counts(self) -> Floats:
        """`ln 1`, `ln 2` and so on to that of how many rows there are."""
        return np.log(np.arange(1, len(self.cards) + 1))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """What each row is called: its name, or `name@version` where versions share a name."""
        names = Counter(card.name for card in self.cards)
        return tuple(card.name if names[card.name] == 1 else card.key for card in self.cards)

    def weigh_words(self, terms: Sequence[str]) -> Lexical:
        """Return what the stems of a query say of each row."""
        found, slots = self.bm25.weigh(terms), self._slots
        return found if slots is None else Lexical(*(values[slots] for values in found))

    def weigh_wording(self, terms: Sequence[str]) -> Floats | None:
        """Return the BM25 of the wording of a query for each row, None where it is not known."""
        if self.phrases is None:
            return None
        found, slots = self.phrases.score(terms), self._phrase_slots
        return found if slots is None else found[slots]

    @cached_property
    def _slots(self) -> Rows | None:
        return self._slots_in(self.bm25)

    @cached_property
    def _phrase_slots(self) -> Rows | None:
        return None if self.phrases is None else self._slots_in(self.phrases)

    def _slots_in(self, index: Bm25Index) -> Rows | None:
        """The slot of each row, None where that is the row itself."""
        slots = np.array([index.slots[card] for card in self.cards], np.intp)
        in_place = np.array_equal(slots, np.arange(len(index.lengths)))
        return None if in_place else slots

    def shared_words(self, row: int, terms: Sequence[str]) -> list[str]:
        """Return those of `terms` that the card of `row` has, without repeats."""
        counts = self.bm25.counts[self.cards[row]]
        return [term for term in dict.fromkeys(terms) if term in counts]


class CardIndex:
    """Makes views of candidates and keeps the latest; safe between threads."""

    def __init__(self, *, cached_views: int = 4) -> None:
        self._cached_views = cached_views
        self._views: OrderedDict[int, CandidateView] = OrderedDict()
        self._made = 0
        self._lock = threading.Lock()
        self._making = threading.Lock()

    def known(self, candidates: tuple[AdapterCard, ...]) -> CandidateView | None:
        """Return the view of exactly these candidates, if it is kept."""
        with self._lock:
            for key in reversed(self._views):
                if self._views[key].candidates == candidates:
                    self._views.move_to_end(key)
                    return self._views[key]
        return None

    def view(self, candidates: tuple[AdapterCard, ...]) -> CandidateView:
        """Return the view of these candidates, made from the latest one where it is new."""
        with self._making:
            return self.known(candidates) or self._made_of(candidates)

    def _made_of(self, candidates: tuple[AdapterCard, ...]) -> CandidateView:
        with self._lock:
            latest = next(reversed(self._views.values())) if self._views else _NONE
        keys = dict.fromkeys(candidates)
        phrases = None
        if len(keys) <= MOST_WORDED:
            phrases = (latest.phrases or Bm25Index()).updated(keys, _phrase_counts)
        made = CandidateView(candidates, latest.bm25.updated(keys, _counts), phrases)
        with self._lock:
            self._made += 1
            self._views[self._made] = made
            while len(self._views) > self._cached_views:
                self._views.popitem(last=False)
        return made


_NONE = CandidateView((), Bm25Index(), Bm25Index())


def _content(card: AdapterCard) -> object:
    content = (card.domain, card.description, card.keywords, card.examples)
    if not any(content):
        return card.name
    return (*content, card.negatives, card.must, card.never, card.threshold)


def _counts(card: AdapterCard) -> Counts:
    return _counted(card, stems)


def _phrase_counts(card: AdapterCard) -> Counts:
    return _counted(card, wording)


def _counted(card: AdapterCard, read: Callable[[str], list[str]]) -> Counts:
    counts: Counter[str] = Counter()
    for text in (card.name, card.domain, card.description, *card.keywords):
        for term in read(text):
            counts[term] += FIELD_COUNTS_AS  # type: ignore[assignment]
    for example in card.examples:
        counts.update(read(example))
    return counts
