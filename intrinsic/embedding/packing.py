"""Rows of tokens in batches: as many at once as a budget allows, with little padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


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
