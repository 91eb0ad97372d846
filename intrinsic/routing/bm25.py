"""BM25 over bags of stems, in numpy; an index never changes, its successor shares its parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Counts = Mapping[str, float]
"""How often each stem stands in a document; a fraction where a field counts for less."""

Floats = npt.NDArray[np.float64]
Slots = npt.NDArray[np.intp]

Documents = Mapping[Any, Counts]
"""Bags of stems by key, which is anything hashable."""

K1 = 1.2
B = 0.75


class Lexical(NamedTuple):
    """What the words of a query say of each document."""

    scores: Floats  # (slots,) BM25
    covered: Floats  # (slots,) the matched words' share of the query's idf, in [0, 1]
    rarity: Floats  # (slots,) idf of the rarest matched word


class _Posting(NamedTuple):
    slots: Slots  # (documents with the term,)
    counts: Floats  # (documents with the term,)


class _Term(NamedTuple):
    idf: float
    slots: Slots
    adds: Floats  # (2, documents): what the term adds to the score of each, and its idf


@dataclass(frozen=True, slots=True)
class Bm25Index:
    """Documents by key, each in a slot of its own.

    `score(q, d) = Σ_t idf(t) · c (k1 + 1) / (c + k1 (1 - b + b · |d| / mean |d|))` with
    `idf(t) = ln(1 + (N - n_t + ½) / (n_t + ½))` (Robertson and Zaragoza 2009, Lucene's form).
    """

    slots: Mapping[Hashable, int] = field(default_factory=dict)
    counts: Documents = field(default_factory=dict)
    postings: Mapping[str, _Posting] = field(default_factory=dict)
    lengths: Floats = field(default_factory=lambda: np.zeros(0))  # (slots,), 0 where free
    norms: Floats = field(default_factory=lambda: np.zeros(0))  # (slots,), the sum beside c
    _terms: dict[str, _Term] = field(default_factory=dict, repr=False, compare=False)

    def updated(self, keys: Mapping[Any, object], read: Callable[[Any], Counts]) -> Bm25Index:
        """Return an index of exactly the documents `keys`; `read` gives those not in this one."""
        gone = self.slots.keys() - keys.keys()
        new = [key for key in keys if key not in self.slots]
        slots, counts = dict(self.slots), dict(self.counts)
        for key in gone:
            del slots[key], counts[key]
        taken = set(slots.values()) if gone or len(slots) < len(self.lengths) else set()
        free = (slot for slot in count(0 if taken else len(slots)) if slot not in taken)
        for key in new:
            slots[key], counts[key] = next(free), read(key)
        lengths = np.zeros(1 + max(slots.values(), default=-1))
        kept = min(len(lengths), len(self.lengths))
        lengths[:kept] = self.lengths[:kept]
        for key in gone:
            if self.slots[key] < len(lengths):
                lengths[self.slots[key]] = 0.0
        for key in new:
            lengths[slots[key]] = sum(counts[key].values())
        postings = dict(self.postings)
        _drop(postings, gone, self.slots, self.counts)
        _add(postings, new, slots, counts)
        mean_length = float(lengths.sum()) / max(len(slots), 1) or 1.0
        norms = K1 * (1.0 - B + B / mean_length * lengths)
        return Bm25Index(slots, counts, postings, lengths, norms)

    def weigh(self, terms: Sequence[str]) -> Lexical:
        """Return what `terms` (repeats do not count) say of each slot."""
        asked = dict.fromkeys(terms)
        found = self._found(asked)
        scores, covered, rarity = np.zeros((3, len(self.lengths)))
        if found:
            found.sort(key=_idf)  # the rarest last, which its idf shows
            at = np.concatenate([term.slots for term in found])
            gains, idfs = np.concatenate([term.adds for term in found], axis=1)
            scores = _sums(at, gains, len(scores))
            rarity[at] = idfs
            mass = sum(map(_idf, found)) + (len(asked) - len(found)) * self._idf_of(0)
            covered = _sums(at, idfs / mass, len(scores))
        return Lexical(scores, covered, rarity)

    def score(self, terms: Sequence[str]) -> Floats:
        """Return the BM25 alone of each slot."""
        found = self._found(dict.fromkeys(terms))
        if not found:
            return np.zeros(len(self.lengths))
        at = np.concatenate([term.slots for term in found])
        gains = np.concatenate([term.adds[0] for term in found])
        return _sums(at, gains, len(self.lengths))

    def _found(self, terms: Iterable[str]) -> list[_Term]:
        """What those of `terms` add that any document has; kept, as nothing here changes."""
        kept, found = self._terms, []
        for term in terms:
            known = kept.get(term)
            if known is None:
                posting = self.postings.get(term)
                if posting is None:
                    continue
                known = kept[term] = self._weighed(posting)
            found.append(known)
        return found

    def _weighed(self, posting: _Posting) -> _Term:
        at, counts = posting
        idf = self._idf_of(len(at))
        adds = np.empty((2, len(at)))
        np.divide((idf * (K1 + 1.0)) * counts, counts + self.norms[at], out=adds[0])
        adds[1] = idf
        return _Term(idf, at, adds)

    def _idf_of(self, n_docs_with: int) -> float:
        return math.log1p((len(self.slots) - n_docs_with + 0.5) / (n_docs_with + 0.5))


def _sums(at: Slots, values: Floats, n: int) -> Floats:
    return np.bincount(at, values, n).astype(np.float64, copy=False)


def _idf(term: _Term) -> float:
    return term.idf


def _drop(
    postings: dict[str, _Posting],
    keys: Collection[Hashable],
    slots: Mapping[Hashable, int],
    counts: Documents,
) -> None:
    doomed: dict[str, list[int]] = {}
    for key in keys:
        for term in counts[key]:
            doomed.setdefault(term, []).append(slots[key])
    for term, of_term in doomed.items():
        keep = ~np.isin(postings[term].slots, of_term)
        if keep.any():
            postings[term] = _Posting(postings[term].slots[keep], postings[term].counts[keep])
        else:
            del postings[term]


def _add(
    postings: dict[str, _Posting],
    keys: Collection[Hashable],
    slots: Mapping[Hashable, int],
    counts: Documents,
) -> None:
    grown: dict[str, tuple[list[int], list[float]]] = {}
    for key in keys:
        for term, times in counts[key].items():
            at, of_term = grown.setdefault(term, ([], []))
            at.append(slots[key])
            of_term.append(times)
    for term, (at, of_term) in grown.items():
        new = _Posting(np.array(at, np.intp), np.array(of_term, np.float64))
        old = postings.get(term)
        if old is not None:
            new = _Posting(
                np.concatenate([old.slots, new.slots]), np.concatenate([old.counts, new.counts])
            )
        postings[term] = new
