"""Candidates with vectors that a test makes up."""

from __future__ import annotations

import numpy as np

from intrinsic.card import AdapterCard
from intrinsic.routing import Vectors
from intrinsic.routing.card_vectors import CardVectors, texts_of
from intrinsic.routing.dense import DenseView
from intrinsic.routing.head import units
from intrinsic.routing.index import CandidateView, CardIndex
from intrinsic.routing.vector_cache import Vector


def crowd(
    n: int, examples: int | list[int], *, d: int = 24, noise: float = 0.5, seed: int = 0
) -> tuple[CandidateView, DenseView, Vectors]:
    """Return `n` cards with examples around a direction of their own, and the directions."""
    rng = np.random.default_rng(seed)
    ways = units(rng.normal(size=(n, d)).astype(np.float32))
    counts = [examples] * n if isinstance(examples, int) else examples
    cards = tuple(
        AdapterCard(
            f"a{row}", description=f"d{row}", examples=tuple(f"{row} {i}" for i in range(count))
        )
        for row, count in enumerate(counts)
    )
    view = CardIndex().view(cards)
    vectors = [
        CardVectors.of(card, np.stack([near(ways[row], noise, rng) for _ in texts_of(card)]))
        for row, card in enumerate(cards)
    ]
    return view, DenseView(view, vectors), ways


def near(way: Vector, noise: float, rng: np.random.Generator) -> Vector:
    """Return a unit vector near `way`."""
    away = rng.normal(scale=noise / len(way) ** 0.5, size=way.shape)
    found: Vector = units((way + away).astype(np.float32))
    return found
