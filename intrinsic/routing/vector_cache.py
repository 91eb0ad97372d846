"""A bounded cache of vectors by text, least recently used first out, safe between threads."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]


class VectorCache:
    """At most `capacity` vectors; a text is kept as its digest, however long it is."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._vectors: OrderedDict[bytes, Vector] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._vectors)

    def get(self, texts: Sequence[str]) -> list[Vector | None]:
        """Return the vector of each text, None where there is none."""
        found: list[Vector | None] = []
        with self._lock:
            for key in map(_digest, texts):
                vector = self._vectors.get(key)
                if vector is not None:
                    self._vectors.move_to_end(key)
                found.append(vector)
        return found

    def put(self, texts: Sequence[str], vectors: npt.NDArray[np.float32]) -> None:
        """Keep one vector per text."""
        with self._lock:
            for text, vector in zip(texts, vectors, strict=True):
                own = vector.copy()  # a row would keep its whole batch alive
                own.setflags(write=False)
                self._vectors[_digest(text)] = own
                self._vectors.move_to_end(_digest(text))
            while len(self._vectors) > self.capacity:
                self._vectors.popitem(last=False)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
