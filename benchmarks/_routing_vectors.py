"""Vectors that are made once and looked up afterwards, the same for every router."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from intrinsic.routing import Embedder, Vectors

_BATCH = 512

Say = Callable[[str], None]


class Known:
    """An `Embedder` of texts whose vectors are known; asks `behind` for any other, and counts it.

    Answers on the event loop, without a thread: a lookup is not an encoder's work.
    """

    def __init__(self, behind: Embedder) -> None:
        self._behind = behind
        self._rows: dict[str, Vectors] = {}
        self.missed = 0

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._behind.dimension

    def add(self, texts: Sequence[str], vectors: Iterable[Vectors]) -> None:
        """Know one more unit vector per text, as the encoder or a synthesis made them."""
        for text, vector in zip(texts, vectors, strict=True):
            self._rows[text] = self._rows[text.strip()] = vector

    def __contains__(self, text: object) -> bool:
        return text in self._rows

    def __call__(self, texts: Sequence[str]) -> list[Vectors]:
        """The vectors of known texts, one row each."""
        return [self._rows[text] for text in texts]

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """One unit vector per text, `(n_texts, dimension)` float32."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if missing:
            self.missed += len(missing)
            self.add(missing, await self._behind.embed(missing))
        if len(texts) == 1:
            return self._rows[texts[0]][None, :]
        return np.stack(self(texts)) if texts else np.zeros((0, self.dimension), np.float32)


async def known_of(texts: Sequence[str], encoder: Embedder, cache: Path | None, say: Say) -> Known:
    """Embed every text with `encoder`, or read the vectors from a file that keeps them.

    The file is used only if this encoder still gives the same vector to its first text.
    """
    known = Known(encoder)
    kept = _kept(cache) if cache is not None else {}
    for text in list(kept)[:1]:
        if not np.allclose((await encoder.embed([text]))[0], kept[text], atol=1e-3):
            kept = {}
    known.add(list(kept), list(kept.values()))
    missing = sorted({text for text in texts if text not in kept}, key=len)
    for at in range(0, len(missing), _BATCH):
        batch = missing[at : at + _BATCH]
        known.add(batch, await encoder.embed(batch))
        say(f"  embedded {at + len(batch)} of {len(missing)} texts")
    if missing and cache is not None:
        np.savez(cache, texts=json.dumps(list(texts)), vectors=np.stack(known(texts)))
    return known


def _kept(cache: Path) -> dict[str, Vectors]:
    if not cache.exists():
        return {}
    with np.load(cache) as file:
        return dict(zip(json.loads(str(file["texts"])), file["vectors"], strict=True))
