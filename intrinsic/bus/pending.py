"""The store of vectors that wait for a flush."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from intrinsic.errors import BusFullError, EventError
from intrinsic.events import EventContext, InjectionChannel, MemoryVector


class Batch(NamedTuple):
    """Vectors of one context that were enqueued one after the other."""

    channel: InjectionChannel
    context: EventContext
    vectors: tuple[MemoryVector, ...]
    number: int  # of the last enqueue that is part of it


class PendingVectors:
    """A bounded store. What is taken still counts until it is settled or put back."""

    __slots__ = ("_batches", "_number", "_size", "count")

    def __init__(self, size: int) -> None:
        self._size = size
        self._batches: dict[InjectionChannel, deque[Batch]] = {}
        self._number = 0
        self.count = 0

    def add(
        self, channel: InjectionChannel, vectors: Sequence[MemoryVector], context: EventContext
    ) -> None:
        """Store all of `vectors` or, raising `BusFullError`, none."""
        vectors = tuple(vectors)
        for vector in vectors:
            check_vector(vector)
        if self.count + len(vectors) > self._size:
            raise BusFullError(
                f"{self.count} vectors wait for a flush and {len(vectors)} more exceed "
                f"max_pending={self._size}; flush the bus first"
            )
        if vectors:
            self._number += 1
            self.count += len(vectors)
            batches = self._batches.setdefault(channel, deque())
            batches.append(Batch(channel, context, vectors, self._number))

    def mark(self) -> int:
        """A point in time for `take`: everything enqueued so far."""
        return self._number

    def channels(self) -> list[InjectionChannel]:
        """The channels that have vectors, in the order of `InjectionChannel`."""
        return [channel for channel in InjectionChannel if self._batches.get(channel)]

    def take(self, channel: InjectionChannel, mark: int) -> Batch | None:
        """Take the oldest vectors that share a context and were there at `mark`."""
        batches = self._batches.get(channel)
        if not batches or batches[0].number > mark:
            return None
        batch = batches.popleft()
        vectors = list(batch.vectors)
        while batches and batches[0].number <= mark and batches[0].context == batch.context:
            batch = batches.popleft()
            vectors += batch.vectors
        return batch._replace(vectors=tuple(vectors))

    def settle(self, batch: Batch) -> None:
        """Forget a batch that was delivered."""
        self.count -= len(batch.vectors)

    def put_back(self, batch: Batch) -> None:
        """Store a batch that was taken and not delivered again, before all newer ones."""
        batches = self._batches.setdefault(batch.channel, deque())
        index = next((i for i, b in enumerate(batches) if b.number > batch.number), len(batches))
        batches.insert(index, batch)


def check_vector(vector: object) -> None:
    """Raise `EventError` for what is no memory vector."""
    if not isinstance(vector, MemoryVector):
        raise EventError(
            f"the bus carries MemoryVector objects, not {type(vector).__name__}; "
            "build one with MemoryVector(memory_id, source_text)"
        )
