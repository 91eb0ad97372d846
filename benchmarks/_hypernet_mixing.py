"""Wordings to learn from that are mixed from two others of the same operation.

"Swap the halves" and "exchange both halves" give "both exchange halves": a few words, in any order,
that still say which operation is meant. So a network learns what each word says of an operation,
and not four phrases by heart. Nothing is mixed that has the words of a wording for scoring.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Collection
from functools import lru_cache

from benchmarks._hypernet_words import NEW_SKILL, ORDERS, SIGNS, STYLES, Operation
from intrinsic.routing.text import stem, words

OPERATIONS = (*ORDERS, *SIGNS, *STYLES, NEW_SKILL)
MARGIN = 2.0
"""So many times as much must be said for the operation as for any other."""
FEWEST, MOST = 2, 5
"""Words of a mixed wording."""


def mixed(operation: Operation, source: random.Random) -> str:
    """A few words of two of its wordings for training, by which it can be told."""
    while True:
        one, other = source.sample(operation.wordings, 2)
        known = list(dict.fromkeys(f"{one} {other}".split()))
        said = source.sample(known, min(len(known), source.randint(FEWEST, MOST)))
        stems = stems_of(" ".join(said))
        if stems not in _scored() and tells(operation, stems):
            return " ".join(said)


def tells(operation: Operation, stems: Collection[str]) -> bool:
    """Whether these words are said of the operation by far more than of any other.

    Each word speaks for the operations whose wordings for training have it, in shares.
    """
    votes: dict[int, float] = defaultdict(float)
    for one in stems:
        counts = _counts().get(one, Counter[int]())
        for at, count in counts.items():
            votes[at] += count / counts.total()
    own = votes.pop(OPERATIONS.index(operation), 0.0)
    return own > 0 and own >= MARGIN * max(votes.values(), default=0.0)


def stems_of(text: str) -> frozenset[str]:
    """The stems of its words, without their order."""
    return frozenset(map(stem, words(text)))


@lru_cache
def _scored() -> frozenset[frozenset[str]]:
    """What nobody may train on."""
    return frozenset(stems_of(text) for one in OPERATIONS for text in one.new_wordings)


@lru_cache
def _counts() -> dict[str, Counter[int]]:
    """In how many wordings of which operations a stem is."""
    found: dict[str, Counter[int]] = defaultdict(Counter)
    for at, operation in enumerate(OPERATIONS):
        for text in operation.wordings:
            for one in stems_of(text):
                found[one][at] += 1
    return found
