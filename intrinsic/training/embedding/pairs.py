"""Which texts are held against each other: the pairs of each epoch, in batches."""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from intrinsic.training.embedding.rows import LabelledRow, PairRow
from intrinsic.training.lora.data_file import folded

_LOOKED_AT = 50
"""Pairs that a batch looks through for each of its places; few labels make small batches."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts that belong together, and perhaps a third that does not belong to the first.

    Two pairs that share one of `groups` are not in one batch, where each would count as wrong for
    the other.
    """

    query: str
    positive: str
    negative: str | None
    groups: frozenset[str]


def pair_of(row: PairRow) -> Pair:
    """A row as it stands; its groups are its texts."""
    texts = (row.query, row.positive, *([] if row.negative is None else [row.negative]))
    return Pair(row.query, row.positive, row.negative, frozenset(map(folded, texts)))


def paired(rows: Sequence[LabelledRow], draw: random.Random) -> list[Pair]:
    """Two texts of a label each, drawn; the odd one of a label meets one that has a pair already.

    Labels of one text make none.
    """
    found = []
    for label, texts in by_label(rows).items():
        mixed = draw.sample(texts, len(texts))
        if len(mixed) % 2 and len(mixed) > 1:
            mixed.append(draw.choice(mixed[:-1]))
        for query, positive in zip(mixed[::2], mixed[1::2], strict=False):
            found.append(Pair(query, positive, None, frozenset([label])))
    return found


def by_label(rows: Iterable[LabelledRow]) -> dict[str, list[str]]:
    """The distinct texts of each label."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        found[row.label].setdefault(row.key, row.text)
    return {label: list(texts.values()) for label, texts in found.items()}


def passes(
    rows: Sequence[PairRow] | Sequence[LabelledRow], size: int, seed: int, epochs: int
) -> list[list[Pair]]:
    """The batches of all epochs, in the order in which they are learned."""
    draw = random.Random(seed)
    found: list[list[Pair]] = []
    for _ in range(epochs):
        pairs = [pair_of(row) for row in rows if isinstance(row, PairRow)]
        pairs += paired([row for row in rows if isinstance(row, LabelledRow)], draw)
        draw.shuffle(pairs)
        found += batches(pairs, size)
    return found


def batches(pairs: Iterable[Pair], size: int) -> list[list[Pair]]:
    """At most `size` pairs each, none of which share a group; those with a negative apart.

    Pairs that find no company are left out: alone there is nothing to tell them from.
    """
    found = []
    kinds: dict[bool, deque[Pair]] = {False: deque(), True: deque()}
    for pair in pairs:
        kinds[pair.negative is not None].append(pair)
    for waiting in kinds.values():
        while waiting:
            batch = _batch(waiting, size)
            if len(batch) > 1:
                found.append(batch)
    return found


def _batch(waiting: deque[Pair], size: int) -> list[Pair]:
    batch: list[Pair] = []
    taken: set[str] = set()
    passed: list[Pair] = []
    while waiting and len(batch) < size and len(passed) < _LOOKED_AT * size:
        pair = waiting.popleft()
        if taken.isdisjoint(pair.groups):
            batch.append(pair)
            taken |= pair.groups
        else:
            passed.append(pair)
    waiting.extendleft(reversed(passed))
    return batch
