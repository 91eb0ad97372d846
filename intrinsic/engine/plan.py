"""What one layer does for a mixture, worked out once per activation.

Under one mixture each adapter has a pair of products of its own, in the order of their ids: so the
result does not depend, to the bit, on what else is loaded. With a mixture per row there is one
pair for the stack of all adapters that any row uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from intrinsic.engine.active import Active
from intrinsic.engine.bank import BankView, FactorBank
from intrinsic.engine.ordinary import ordinary
from intrinsic.errors import MixtureError
from intrinsic.mixture import Mixture


@dataclass(frozen=True, slots=True)
class SharedPlan:
    """One mixture for all rows: per adapter `A (r, in)`, `B (r, out)` and the number `w s`.

    `gain (out,)` multiplies `W x`, `bias (out,)` is added.
    """

    terms: tuple[tuple[torch.Tensor, torch.Tensor, float], ...]
    bias: torch.Tensor | None
    gain: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class RowsPlan:
    """A mixture per row: `A (R, in)`, `B (R, out)`, `weights (rows, R)`.

    `gain` and `bias` are `(rows, out)`. `unused` marks the weights that are zero.
    """

    A: torch.Tensor
    B: torch.Tensor
    weights: torch.Tensor
    unused: torch.Tensor
    bias: torch.Tensor | None
    gain: torch.Tensor | None


def plan_shared(bank: FactorBank, mixture: Mixture) -> SharedPlan:
    """Work out how the layer of `bank` serves one mixture."""
    found = [(v, w) for adapter, w in mixture.entries if (v := bank.get(adapter)) is not None]
    terms = tuple((view.A, view.B, weight * view.scale) for view, weight in found)
    if all(view.bias is None and view.gain is None for view, _ in found):
        return SharedPlan(terms, None, None)
    with ordinary():
        bias = _sum([v.bias * w for v, w in found if v.bias is not None])
        gain = _sum([v.gain * w for v, w in found if v.gain is not None])
    return SharedPlan(terms, bias, gain)


def plan_rows(bank: FactorBank, active: Active) -> RowsPlan | None:
    """Work out how the layer of `bank` serves a mixture per row; None where it does not change."""
    found = [(v, a) for a in active.adapters if (v := bank.get(a)) is not None]
    if not found:
        return None
    found.sort(key=lambda pair: pair[0].start)
    views = [view for view, _ in found]
    columns = [active.column(adapter) for _, adapter in found]
    A, B = _stack(bank, views)
    weights, unused = _row_weights(active, views, columns, A)
    if all(view.bias is None and view.gain is None for view in views):
        return RowsPlan(A, B, weights, unused, None, None)
    with ordinary():
        tall = [torch.tensor(column, dtype=A.dtype, device=A.device)[:, None] for column in columns]
        pairs = list(zip(views, tall, strict=True))
        bias = _sum([w * v.bias for v, w in pairs if v.bias is not None])
        gain = _sum([w * v.gain for v, w in pairs if v.gain is not None])
    return RowsPlan(A, B, weights, unused, bias, gain)


def _row_weights(
    active: Active, views: Sequence[BankView], columns: Sequence[Sequence[float]], A: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights `(rows, R)` and where they are zero; layers with the same ranks and scales share."""
    ranks = tuple((view.rank, view.scale) for view in views)
    key = ("weights", ranks, tuple(columns), A.dtype, A.device)
    found: tuple[torch.Tensor, torch.Tensor] | None = active.plans.get(key)
    if found is None:
        _check_weights(ranks, columns, A.dtype)
        per_row = [
            [w * scale for (rank, scale), w in zip(ranks, row, strict=True) for _ in range(rank)]
            for row in zip(*columns, strict=True)
        ]
        with ordinary():
            weights = torch.tensor(per_row, dtype=A.dtype, device=A.device)
            found = active.plans[key] = (weights, weights == 0)
    return found


def _check_weights(
    ranks: Sequence[tuple[int, float]], columns: Sequence[Sequence[float]], dtype: torch.dtype
) -> None:
    pairs = zip(ranks, columns, strict=True)
    largest = max(abs(w * scale) for (_, scale), column in pairs for w in column)
    if not largest <= torch.finfo(dtype).max:
        raise MixtureError(
            f"a weight times its adapter's scale is {largest:g}, too large for {dtype}; lower the "
            "weight"
        )


def _stack(bank: FactorBank, views: Sequence[BankView]) -> tuple[torch.Tensor, torch.Tensor]:
    """The views' rows: a part of the bank where they touch, else a copy."""
    if all(_touch(left, right) for left, right in pairwise(views)):
        rows = slice(views[0].start, views[-1].start + views[-1].rank)
        return bank.A[rows], bank.B[rows]
    with ordinary():
        return torch.cat([view.A for view in views]), torch.cat([view.B for view in views])


def _touch(left: BankView, right: BankView) -> bool:
    return left.start + left.rank == right.start


def _sum(terms: Sequence[torch.Tensor]) -> torch.Tensor | None:
    return sum(terms[1:], start=terms[0]) if terms else None
