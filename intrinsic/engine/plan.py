"""What one layer does for a mixture, worked out once per activation.

Adapters whose rows lie beside each other in the bank are served by one pair of products, a run:
nothing is copied, and which adapters share a run only moves the last bits of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from intrinsic.engine.active import Active
from intrinsic.engine.bank import BankView, FactorBank
from intrinsic.engine.ordinary import ordinary
from intrinsic.errors import MixtureError
from intrinsic.mixture import Mixture

Found = tuple[BankView, tuple[float, ...]]
"""An adapter's rows of the bank, and its weight in each mixture."""

_GAP = 64
"""Rows of adapters that no mixture uses, and that a run rather takes along than ends at."""


@dataclass(frozen=True, slots=True)
class SharedRun:
    """Rows of the bank, `At (in, R)` and `B (R, out)`.

    Their weights times their scales are one number, or `(R,)`.
    """

    At: torch.Tensor
    B: torch.Tensor
    weights: torch.Tensor | float


@dataclass(frozen=True, slots=True)
class SharedPlan:
    """One mixture: the runs; `gain (out,)` multiplies `W x`, `bias (out,)` is added."""

    runs: tuple[SharedRun, ...]
    bias: torch.Tensor | None
    gain: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class RowsRun:
    """Rows of the bank, `At (in, R)` and `B (R, out)`.

    `weights (rows, R)` are those of each mixture, times the scales; `unused` marks the zeros.
    """

    At: torch.Tensor
    B: torch.Tensor
    weights: torch.Tensor
    unused: torch.Tensor


@dataclass(frozen=True, slots=True)
class RowsPlan:
    """A mixture per row: the runs; gain and bias are `(rows, 1, out)`."""

    runs: tuple[RowsRun, ...]
    bias: torch.Tensor | None
    gain: torch.Tensor | None


def plan_shared(bank: FactorBank, active: Active, mixture: Mixture) -> SharedPlan | None:
    """Work out how a layer serves one mixture; None where the mixture does not change it."""
    found = [(v, (w,)) for adapter, w in mixture.entries if (v := bank.get(adapter)) is not None]
    if not found:
        return None
    found.sort(key=lambda pair: pair[0].start)
    runs = tuple(_shared_run(bank, active, run) for run in _runs(found, gap=0))
    return SharedPlan(runs, *_extras(found, lambda weights: weights[0]))


def plan_rows(bank: FactorBank, active: Active) -> RowsPlan | None:
    """Work out how a layer serves a mixture per row; None where none of them changes it."""
    found = [(v, active.column(a)) for a in active.adapters if (v := bank.get(a)) is not None]
    if not found:
        return None
    found.sort(key=lambda pair: pair[0].start)

    def tall(weights: tuple[float, ...]) -> torch.Tensor:
        made = torch.tensor(weights, dtype=bank.A.dtype)[:, None, None]
        return made.to(bank.A.device, non_blocking=True)

    runs = tuple(_rows_run(bank, active, run) for run in _runs(found, gap=_GAP))
    return RowsPlan(runs, *_extras(found, tall))


def _runs(found: Sequence[Found], *, gap: int) -> Iterator[list[Found]]:
    """Split adapters, sorted by their rows, wherever more than `gap` rows lie between them."""
    run = [found[0]]
    for pair in found[1:]:
        last = run[-1][0]
        if pair[0].start - (last.start + last.rank) > gap:
            yield run
            run = []
        run.append(pair)
    yield run


def _shared_run(bank: FactorBank, active: Active, run: Sequence[Found]) -> SharedRun:
    At, B = _part(bank, run)
    numbers = {weights[0] * view.scale for view, weights in run}
    if len(numbers) == 1:
        return SharedRun(At, B, numbers.pop())
    weights, _ = _weights(active, run, B)
    return SharedRun(At, B, weights[0])


def _rows_run(bank: FactorBank, active: Active, run: Sequence[Found]) -> RowsRun:
    At, B = _part(bank, run)
    return RowsRun(At, B, *_weights(active, run, B))


def _part(bank: FactorBank, run: Sequence[Found]) -> tuple[torch.Tensor, torch.Tensor]:
    first, last = run[0][0], run[-1][0]
    return bank.part(first.start, last.start + last.rank)


def _weights(
    active: Active, run: Sequence[Found], B: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights `(mixtures, R)` and where they are zero; layers with the same layout share them."""
    start = run[0][0].start
    layout = tuple((view.start - start, view.rank, view.scale, weights) for view, weights in run)
    key = (layout, B.dtype, B.device)
    found: tuple[torch.Tensor, torch.Tensor] | None = active.plans.get(key)
    if found is None:
        _check_weights(run, B.dtype)
        made = [[0.0] * B.shape[0] for _ in run[0][1]]
        for at, rank, scale, weights in layout:
            for row, weight in zip(made, weights, strict=True):
                row[at : at + rank] = [weight * scale] * rank
        with ordinary():
            # A blocking copy to a GPU would wait for all that runs on it.
            tensor = torch.tensor(made, dtype=B.dtype).to(B.device, non_blocking=True)
            found = active.plans[key] = (tensor, tensor == 0)
    return found


def _check_weights(run: Sequence[Found], dtype: torch.dtype) -> None:
    largest = max(abs(weight * view.scale) for view, weights in run for weight in weights)
    if not largest <= torch.finfo(dtype).max:
        raise MixtureError(
            f"a weight times its adapter's scale is {largest:g}, too large for {dtype}; lower the "
            "weight"
        )


def _extras(
    found: Sequence[Found], weight_of: Callable[[tuple[float, ...]], torch.Tensor | float]
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The mixtures' bias and gain, where any adapter has one."""
    if all(view.bias is None and view.gain is None for view, _ in found):
        return None, None
    with ordinary():
        biases = [v.bias * weight_of(weights) for v, weights in found if v.bias is not None]
        gains = [v.gain * weight_of(weights) for v, weights in found if v.gain is not None]
        return _sum(biases), _sum(gains)


def _sum(terms: Sequence[torch.Tensor]) -> torch.Tensor | None:
    return sum(terms[1:], start=terms[0]) if terms else None
