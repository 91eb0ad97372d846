"""Rows of a batch that each use adapters of their own: a small product for each row.

Beside one product over the stack of all, it multiplies no row with what another one uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from intrinsic.engine.active import Active
from intrinsic.engine.bank import BankView, FactorBank
from intrinsic.engine.ordinary import ordinary

_MOST_COPIED = 2**16
"""So many numbers of a layer's factors are copied at most, to lie as the rows of the batch do."""


class OwnRun(NamedTuple):
    """What each row uses: `At (rows, in, r)` and `B (rows, r, out)`.

    The weights times the scales are one number, or `(rows, 1, r)`.
    """

    At: torch.Tensor
    B: torch.Tensor
    weights: torch.Tensor | float


class Apart(NamedTuple):
    """Which `rank` rows of a bank each of the `batch` rows uses, in any layer of one layout.

    `start` is the first where they lie in the batch's order, `places` all of them where not.
    """

    batch: int
    rank: int
    start: int | None
    places: torch.Tensor | None
    weights: torch.Tensor | float


def rows_apart(
    active: Active, found: Sequence[tuple[BankView, str]], like: torch.Tensor
) -> Apart | None:
    """Where each row's own factors are; None where rows differ in rank, or share all."""
    known = {adapter: view.place for view, adapter in found}
    places: list[int] = []
    weights: list[list[float]] = []
    for mixture in active.rows:
        own = [(known[a], weight) for a, weight in mixture.entries if a in known]
        places += (row for place, _ in own for row in range(place.start, place.stop))
        weights.append([weight * place.scale for place, weight in own for _ in range(place.rank)])
    rank, count = len(weights[0]), len(weights)
    if any(len(row) != rank for row in weights) or len(set(places)) <= rank:
        return None
    numbers = {weight for row in weights for weight in row}
    if not max(map(abs, numbers)) <= torch.finfo(like.dtype).max:
        return None  # the stack's plan says in words which weight is too large
    in_order = places == list(range(places[0], places[0] + count * rank))
    with ordinary():
        rows = None if in_order else torch.tensor(places).to(like.device, non_blocking=True)
        if len(numbers) == 1:
            each: torch.Tensor | float = numbers.pop()
        else:
            tall = torch.tensor(weights, dtype=like.dtype)[:, None]
            each = tall.to(like.device, non_blocking=True)
    return Apart(count, rank, places[0] if in_order else None, rows, each)


def own_run(bank: FactorBank, apart: Apart) -> OwnRun | None:
    """The factors of one layer by row: seen where they lie so, copied where that is little."""
    if apart.start is not None:
        return OwnRun(*bank.by_row(apart.start, apart.batch, apart.rank), apart.weights)
    width = bank.A.shape[1] + bank.B.shape[1]
    if apart.places is None or len(apart.places) * width > _MOST_COPIED:
        return None
    with ordinary():
        A, B = (
            stack.index_select(0, apart.places).view(apart.batch, apart.rank, -1)
            for stack in (bank.A, bank.B)
        )
        return OwnRun(A.transpose(1, 2), B, apart.weights)
