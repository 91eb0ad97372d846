"""A head fitted on all examples, and its blend, chosen by cross-validation on the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from intrinsic.routing.blend import Blend, usual
from intrinsic.routing.dense import DenseView
from intrinsic.routing.evidence import Evidence
from intrinsic.routing.head import Head, fit
from intrinsic.routing.index import CandidateView, CardIndex

NEAR_GRID = (0.1, 0.3, 0.6, 1.0, 2.0)
WORDS_GRID = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)
LEAST_EXAMPLES = 40
MOST_ASKED = 600
"""Examples that are asked in each half; more cost time and hardly change the choice."""

_Right = npt.NDArray[np.bool_]


def tuned(view: CandidateView, dense: DenseView) -> tuple[Head, Blend]:
    """Return the head of all texts, and the blend that was best on examples it had not seen."""
    head = fit(dense.texts(), dense.centroids)
    blend = usual(dense.n_examples, fitted=True)
    if int(dense.n_examples[dense.n_examples > 1].sum()) < LEAST_EXAMPLES:
        return head, blend
    return head, _crossed(view, dense, blend)


def _crossed(view: CandidateView, dense: DenseView, default: Blend) -> Blend:
    """Of the grid, the blend that finds most, unless the default finds about as many.

    Each half of every card's examples is asked once of a registry that knows the other half only.
    Not about as many: more by over one standard error of the difference (McNemar 1947). Of thirty
    the best is often so far ahead by chance; it costs nothing where the difference is none.
    """
    grid = [default, *(Blend(near, words) for near in NEAR_GRID for words in WORDS_GRID)]
    right = np.concatenate([_asked(view, dense, half, grid) for half in (0, 1)])  # (asked, grid)
    found = right.sum(0)
    best = int(found.argmax())
    won = int((right[:, best] & ~right[:, 0]).sum())
    lost = int((right[:, 0] & ~right[:, best]).sum())
    return grid[best] if won - lost > np.sqrt(won + lost) else default


def _asked(view: CandidateView, dense: DenseView, half: int, grid: list[Blend]) -> _Right:
    cards, kept, asked = [], [], []
    for row, (card, vectors) in enumerate(zip(view.cards, dense.cards, strict=True)):
        several = len(card.examples) > 1
        shown = [n for n in range(len(card.examples)) if not several or n % 2 != half]
        hidden = [n for n in range(len(card.examples)) if several and n % 2 == half]
        half_card = replace(card, examples=tuple(card.examples[n] for n in shown), version=str(row))
        cards.append(half_card)  # a version of its own: half of two cards may be the same
        kept.append(vectors.with_examples(shown))
        asked += [(row, card.examples[n], vectors.positive[vectors.n_own + n]) for n in hidden]
    part_view = CardIndex().view(tuple(cards))
    part = DenseView(part_view, kept)
    part.judge = (fit(part.texts(), part.centroids), grid[0])
    step = max(1, len(asked) // MOST_ASKED)
    weights = np.array([(blend.near, blend.words) for blend in grid])  # (grid, 2)
    rows = []
    for row, text, vector in asked[::step]:
        evidence = Evidence.of(part_view, text, part.weigh(vector))
        listed = evidence.shortlist
        scores = evidence.linear[listed] + weights @ np.stack(
            [evidence.nearness()[listed], evidence.words[listed]]
        )
        rows.append(listed[scores.argmax(1)] == row)
    return np.array(rows)
