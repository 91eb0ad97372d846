"""Texts in groups and rows of tokens in batches, so that there is little padding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from intrinsic.embedding.item import Item


def packed(lengths: Sequence[int], *, rows: int, tokens: int) -> Iterator[list[int]]:
    """The places of all `lengths`, longest first, in batches.

    A batch has at most `rows` places, and with its padding at most `tokens` tokens; one place is
    a batch however long it is.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    at = 0
    while at < len(order):
        longest = max(1, lengths[order[at]])
        count = max(1, min(rows, tokens // longest))
        yield order[at : at + count]
        at += count


def gathered(items: Sequence[Item], *, texts: int, characters: int) -> Iterator[list[int]]:
    """The places of all `items`, in groups to be tokenized and packed together.

    A group has at most `texts` places and `characters`, or one place. Texts of one mixture that
    has more than a few of them stay together, and texts of about one length do.
    """
    counts = Counter(item.mixture.id for item in items)
    many = {mixture for mixture, count in counts.items() if count >= texts // 2}

    def rank(at: int) -> tuple[str, int]:
        mixture = items[at].mixture.id
        return (mixture if mixture in many else "", -len(items[at].text))

    group: list[int] = []
    size = 0
    for at in sorted(range(len(items)), key=rank):
        size += len(items[at].text)
        if group and (len(group) == texts or size > characters):
            yield group
            group, size = [], len(items[at].text)
        group.append(at)
    if group:
        yield group
