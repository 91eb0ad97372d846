"""In which batches, and in which order, rows are learned."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from intrinsic.training.scoring import Encoded

Batches = list[list[Encoded]]


_LENGTH_NOISE = 16
"""Tokens; rows that differ by fewer in length meet in other batches each time."""


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


def batches(examples: Sequence[Encoded], batch_tokens: int, seed: int) -> Iterator[list[Encoded]]:
    """Batches of similar length without end; each holds at most `batch_tokens` with padding."""
    shuffler = random.Random(seed)
    while True:
        noise = [shuffler.random() * _LENGTH_NOISE for _ in examples]
        order = sorted(range(len(examples)), key=lambda at: len(examples[at].ids) + noise[at])
        groups: list[list[Encoded]] = [[]]
        longest = 0
        for example in (examples[at] for at in order):
            longest = max(longest, len(example.ids))
            if groups[-1] and (len(groups[-1]) + 1) * longest > batch_tokens:
                groups.append([])
                longest = len(example.ids)
            groups[-1].append(example)
        shuffler.shuffle(groups)
        yield from groups
