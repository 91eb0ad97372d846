"""What the parts of the evidence count in the order: by rule, or by cross-validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CARD_TEXTS = 2.0


@dataclass(frozen=True, slots=True)
class Blend:
    """`score = z(head) + near · near(q) / σ + words · z(BM25)`; σ is the cosines' spread."""

    near: float
    words: float


NEAR = 0.3
WORDING = 0.2
WORDS = 0.1
"""Of words without their order, where there are too many candidates for more."""

OF_CARDS = 0.05
"""Where there are hardly examples: a card's words are seldom those of a query."""

_UNEVEN = 1.2


def usual(n_examples: npt.NDArray[np.intp], *, fitted: bool, worded: bool = True) -> Blend:
    """Return the blend of a registry that says no better.

    A fitted head is at its best where all adapters have as many examples, and too sure of those
    that have more. So the more uneven they are (1 - harmonic mean / mean), the more nearness
    counts.
    """
    words = WORDING if worded else WORDS
    if n_examples.mean() < 1.0:
        words = OF_CARDS
    if not fitted:
        return Blend(NEAR, words)
    counts = n_examples + CARD_TEXTS
    evenness = float(1.0 / (1.0 / counts).mean() / counts.mean())
    return Blend(NEAR + _UNEVEN * (1.0 - evenness), words)
