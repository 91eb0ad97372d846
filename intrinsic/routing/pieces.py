"""A text that is longer than the model reads, in pieces, and the mean of their vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence, Sized
from typing import Any

import numpy as np

from intrinsic.errors import EncoderError
from intrinsic.routing.router import Vectors


def cut(text: str, spans: Sequence[tuple[int, int]], limit: int, most: int) -> list[str]:
    """Return `text` in pieces of at most `limit` tokens, which lie at `spans`.

    If these are more than `most` pieces, that many, spread evenly over the text.
    """
    if len(spans) <= limit:
        return [text]
    firsts = list(range(0, len(spans), limit))
    if len(firsts) > most:
        spread = np.linspace(0, len(firsts) - 1, most).round().astype(int)
        firsts = [firsts[at] for at in spread]
    lasts = [min(first + limit, len(spans)) - 1 for first in firsts]
    return [
        text[spans[first][0] : spans[last][1]] for first, last in zip(firsts, lasts, strict=True)
    ]


def means(vectors: Vectors, pieces: Sequence[Sequence[Sized]]) -> Vectors:
    """Return one unit vector per text: the mean of its pieces' vectors, weighted by length."""
    if len(vectors) == len(pieces):
        return vectors
    rows, at = [], 0
    for of_text in pieces:
        share = np.asarray([len(piece) + 1 for piece in of_text], np.float32)
        rows.append(share @ vectors[at : at + len(of_text)])
        at += len(of_text)
    return unit_rows(np.stack(rows), len(pieces), "mean of pieces")


def unit_rows(values: np.ndarray[Any, Any], rows: int, name: str) -> Vectors:
    """Return `values` as unit vectors; raise `EncoderError` unless `(rows, d)` and finite."""
    if values.ndim != 2 or values.shape[0] != rows or values.shape[1] == 0:
        raise EncoderError(
            f"encoder {name!r} gave an array of shape {values.shape} for {rows} texts; "
            f"it must be ({rows}, dimension)"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        vectors: Vectors = values.astype(np.float32)
        square = float(vectors[0] @ vectors[0]) if rows == 1 else 0.0
    if 0.5 < square < 2.0:  # so all are finite, and none too large
        vectors /= np.float32(math.sqrt(square))
        return vectors
    exact = values if values.dtype == np.float64 else vectors
    if not np.isfinite(exact).all():
        raise EncoderError(f"encoder {name!r} gave values that are not finite; use another model")
    largest = np.abs(exact).max(axis=1, keepdims=True)  # it, or its square, may be no float32
    np.divide(exact, np.where(largest > 0, largest, 1.0).astype(exact.dtype), out=vectors)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.where(lengths > 0, lengths, np.float32(1.0))
    return vectors
