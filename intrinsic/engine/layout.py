"""Which rows of a bank belong to which adapter, and which are free."""

from __future__ import annotations

from bisect import bisect, insort
from typing import NamedTuple


class Place(NamedTuple):
    """An adapter's rows, and the scale of its factors; the same in most layers of a model."""

    adapter: str
    start: int
    rank: int
    scale: float

    @property
    def stop(self) -> int:
        """The row after its last."""
        return self.start + self.rank


class FreeRows:
    """The rows below `end` that nobody owns, as ranges that do not touch each other."""

    def __init__(self) -> None:
        self.end = 0
        self._ranges: list[tuple[int, int]] = []

    def take(self, rank: int) -> int:
        """The first of so many free rows beside each other; at the end where there are none."""
        for at, (start, stop) in enumerate(self._ranges):
            if stop - start >= rank:
                self._ranges[at : at + 1] = [(start + rank, stop)] if stop - start > rank else []
                return start
        start = self.end
        self.end += rank
        return start

    def give(self, start: int, rank: int) -> None:
        """Free rows that were taken."""
        stop = start + rank
        at = bisect(self._ranges, (start, stop))
        if at < len(self._ranges) and self._ranges[at][0] == stop:
            stop = self._ranges.pop(at)[1]
        if at and self._ranges[at - 1][1] == start:
            start = self._ranges.pop(at - 1)[0]
        if stop == self.end:
            self.end = start
        else:
            insort(self._ranges, (start, stop))
