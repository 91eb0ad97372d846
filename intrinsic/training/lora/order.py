"""In which batches, and in which order, rows are learned."""

from __future__ import annotations

from collections.abc import Sequence

from intrinsic.training.fine_tune import batches
from intrinsic.training.scoring import Encoded

Batches = list[list[Encoded]]


def one_pass(examples: Sequence[Encoded], batch_tokens: int) -> Batches:
    """Every example once, in batches of similar length."""
    return passes(examples, batch_tokens, seed=0, epochs=1)


def passes(examples: Sequence[Encoded], batch_tokens: int, seed: int, epochs: int) -> Batches:
    """The batches of all epochs, in the order in which they are learned."""
    found: Batches = []
    stream = batches(examples, batch_tokens, seed)
    for _ in range(epochs):
        seen = 0
        while seen < len(examples):
            found.append(next(stream))
            seen += len(found[-1])
    return found
