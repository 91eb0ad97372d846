"""What one layer does for a mixture, worked out once per activation and layout.

Adapters whose rows lie beside each other in the bank are served by one pair of products, a run:
nothing is copied, and which adapters share a run only moves the last bits of the result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch

from intrinsic.engine.active import Active
from intrinsic.engine.bank import FactorBank
from intrinsic.engine.layout import Layout, Place
from intrinsic.engine.ordinary import ordinary
from intrinsic.errors import MixtureError
from intrinsic.mixture import Mixture

Found = tuple[Place, tuple[float, ...]]
"""Where an adapter's rows are, and its weight in each mixture."""

_GAP = 64
"""Rows of adapters that no mixture uses, and that a run rather takes along than ends at."""


class Span(NamedTuple):
    """A run of any layer with the same layout: the rows, and their weights times their scales."""

    start: int
    stop: int
    weights: torch.Tensor | float
    unused: torch.Tensor | None = None


class SharedRun(NamedTuple):
    """Rows of the bank, `At (in, R)` and `B (R, out)`.

    Their weights times their scales are one number, or `(R,)`.
    """

    At: torch.Tensor
    B: torch.Tensor
    weights: torch.Tensor | float


class SharedPlan(NamedTuple):
    """One mixture: the runs; `gain (out,)` multiplies `W x`, `bias (out,)` is added."""

    runs: tuple[SharedRun, ...]
    bias: torch.Tensor | None
    gain: torch.Tensor | None


class RowsRun(NamedTuple):
    """Rows of the bank, `At (in, R)` and `B (R, out)`.

    `weights (rows, R)` are those of each mixture, times the scales; `unused` marks the zeros.
    """

    At: torch.Tensor
    B: torch.Tensor
    weights: torch.Tensor
    unused: torch.Tensor


class RowsPlan(NamedTuple):
    """A mixture per row: the runs; gain and bias are `(rows, 1, out)`."""

    runs: tuple[RowsRun, ...]
    bias: torch.Tensor | None
    gain: torch.Tensor | None


def plan_shared(bank: FactorBank, active: Active, mixture: Mixture) -> SharedPlan | None:
    """Work out how a layer serves one mixture; None where the mixture does not change it."""
    key = (bank.layout, mixture.id)
    spans: tuple[Span, ...] | None = active.plans.get(key)
    if spans is None:
        weights = {adapter: (weight,) for adapter, weight in mixture.entries}
        spans = active.plans[key] = _spans(bank.layout, weights, gap=0, shared=True)
    if not spans:
        return None
    runs = tuple(SharedRun(*bank.part(s.start, s.stop), s.weights) for s in spans)
    if not bank.has_extras:
        return SharedPlan(runs, None, None)
    return SharedPlan(runs, *_extras(bank, dict(mixture.entries)))


def plan_rows(bank: FactorBank, active: Active) -> RowsPlan | None:
    """Work out how a layer serves a mixture per row; None where none of them changes it."""
    spans: tuple[Span, ...] | None = active.plans.get(bank.layout)
    if spans is None:
        columns = {adapter: active.column(adapter) for adapter in active.adapters}
        spans = active.plans[bank.layout] = _spans(bank.layout, columns, gap=_GAP, shared=False)
    if not spans:
        return None
    runs = tuple(
        RowsRun(*bank.part(s.start, s.stop), s.weights, s.unused)
        for s in spans
        if isinstance(s.weights, torch.Tensor) and s.unused is not None
    )
    if not bank.has_extras:
        return RowsPlan(runs, None, None)

    def tall(weights: tuple[float, ...]) -> torch.Tensor:
        made = torch.tensor(weights, dtype=bank.A.dtype)[:, None, None]
        return made.to(bank.A.device, non_blocking=True)

    columns = {adapter: active.column(adapter) for adapter in active.adapters}
    return RowsPlan(runs, *_extras(bank, {a: tall(column) for a, column in columns.items()}))


def _spans(
    layout: Layout, weights: Mapping[str, tuple[float, ...]], *, gap: int, shared: bool
) -> tuple[Span, ...]:
    """The runs of all layers with one layout."""
    found = [(place, weights[place.adapter]) for place in layout.places if place.adapter in weights]
    return tuple(_span(layout, run, shared=shared) for run in _runs(found, gap=gap))


def _runs(found: Sequence[Found], *, gap: int) -> Iterator[list[Found]]:
    """Split adapters, sorted by their rows, wherever more than `gap` rows lie between them."""
    run: list[Found] = []
    for place, weights in found:
        if run and place.start - run[-1][0].stop > gap:
            yield run
            run = []
        run.append((place, weights))
    if run:
        yield run


def _span(layout: Layout, run: Sequence[Found], *, shared: bool) -> Span:
    start, stop = run[0][0].start, run[-1][0].stop
    numbers = {weight * place.scale for place, weights in run for weight in weights}
    if shared and len(numbers) == 1:
        return Span(start, stop, numbers.pop())
    largest = max(map(abs, numbers))
    if not largest <= torch.finfo(layout.dtype).max:
        raise MixtureError(
            f"a weight times its adapter's scale is {largest:g}, too large for {layout.dtype}; "
            "lower the weight"
        )
    made = [[0.0] * (stop - start) for _ in run[0][1]]
    for place, weights in run:
        for row, weight in zip(made, weights, strict=True):
            row[place.start - start : place.stop - start] = [weight * place.scale] * place.rank
    with ordinary():
        # A blocking copy to a GPU would wait for all that runs on it.
        tensor = torch.tensor(made, dtype=layout.dtype).to(layout.device, non_blocking=True)
        return Span(start, stop, tensor[0]) if shared else Span(start, stop, tensor, tensor == 0)


def _extras(
    bank: FactorBank, weights: Mapping[str, torch.Tensor | float]
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The mixtures' bias and gain, where any adapter has one."""
    found = [(view, w) for adapter, w in weights.items() if (view := bank.get(adapter)) is not None]
    with ordinary():
        biases = [view.bias * weight for view, weight in found if view.bias is not None]
        gains = [view.gain * weight for view, weight in found if view.gain is not None]
        return _sum(biases), _sum(gains)


def _sum(terms: Sequence[torch.Tensor]) -> torch.Tensor | None:
    return sum(terms[1:], start=terms[0]) if terms else None
