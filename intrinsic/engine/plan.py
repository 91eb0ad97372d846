"""What one layer does for a mixture, worked out once per activation.

Adapters whose rows lie beside each other in the bank are served by one pair of products, a run:
nothing is copied, and which adapters share a run only moves the last bits of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import torch

from intrinsic.engine.active import Active
from intrinsic.engine.bank import BankView, FactorBank
from intrinsic.engine.framed import (
    MOST_MULTIPLIED,
    FramedRun,
    FramedSpan,
    checked,
    framed_rows,
    framed_shared,
)
from intrinsic.engine.layout import Place
from intrinsic.engine.ordinary import ordinary
from intrinsic.engine.own_rows import Apart, OwnRun, own_run, rows_apart
from intrinsic.mixture import Mixture

_T = TypeVar("_T")
_UNKNOWN: Any = object()

Found = tuple[Place, tuple[float, ...]]
"""Where an adapter's rows are, and its weight in each mixture."""

_GAP = 64
"""Rows of adapters that no mixture uses, and that a run rather takes along than ends at."""


class Span(NamedTuple):
    """A run of any layer where the adapters have these places; the weights times the scales."""

    start: int
    stop: int
    weights: torch.Tensor | float
    unused: torch.Tensor | None = None


class SharedRun(NamedTuple):
    """Rows of the bank, `At (in, R)` and `B (R, out)`, and a `core (R, R)` between them, if any.

    Their weights times their scales are one number, or `(R,)`.
    """

    At: torch.Tensor
    B: torch.Tensor
    weights: torch.Tensor | float
    core: torch.Tensor | None = None


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
    """A mixture per row: the runs, or `own` in their place; gain and bias are `(rows, 1, out)`.

    `framed` is what adapters with cores add. `is_own_alone` says that there is nothing but `own`,
    and one weight for all rows.
    """

    runs: tuple[RowsRun, ...]
    bias: torch.Tensor | None
    gain: torch.Tensor | None
    own: OwnRun | None = None
    framed: tuple[FramedRun, ...] = ()
    is_own_alone: bool = False


def plan_shared(bank: FactorBank, active: Active, mixture: Mixture) -> SharedPlan | None:
    """Work out how a layer serves one mixture; None where the mixture does not change it."""
    found = [(v, w) for adapter, w in mixture.entries if (v := bank.get(adapter)) is not None]
    if not found:
        return None
    plain = [(view, weight) for view, weight in found if view.frame is None]
    runs = _shared_runs(bank, active, mixture, plain) if plain else ()
    framed = framed_shared([pair for pair in found if pair[0].frame is not None], bank.B)
    runs += tuple(_framed_run(bank, span) for span in framed)
    return SharedPlan(runs, *_extras(found, lambda weight: weight))


def _framed_run(bank: FactorBank, span: FramedSpan) -> SharedRun:
    At, B = bank.part(span.start, span.stop)
    if B.numel() > MOST_MULTIPLIED:
        return SharedRun(At, B, span.weight, span.core)
    with ordinary():
        return SharedRun(At, torch.mm(span.core, B), span.weight)


def _shared_runs(
    bank: FactorBank, active: Active, mixture: Mixture, found: Sequence[tuple[BankView, float]]
) -> tuple[SharedRun, ...]:
    key = (mixture.id, bank.A.dtype, bank.A.device, *(view.place for view, _ in found))
    spans: tuple[Span, ...] | None = active.plans.get(key)
    if spans is None:
        places = [(view.place, (weight,)) for view, weight in found]
        spans = active.plans[key] = _spans(places, bank.B, gap=0, shared=True)
    return tuple(SharedRun(*bank.part(s.start, s.stop), s.weights) for s in spans)


def plan_rows(bank: FactorBank, active: Active, *, stacked: bool = False) -> RowsPlan | None:
    """Work out how a layer serves a mixture per row; None where none of them changes it.

    With `stacked` it is served by runs, whatever the rows use.
    """
    found = [(v, a) for a in active.adapters if (v := bank.get(a)) is not None]
    if not found:
        return None
    plain = [(view, adapter) for view, adapter in found if view.frame is None]
    framed = framed_rows(bank, active, [pair for pair in found if pair[0].frame is not None])
    layout = (bank.A.dtype, bank.A.device, *(view.place for view, _ in plain))
    apart: Apart | None = None if stacked or not plain else active.plans.get(layout, _UNKNOWN)
    if apart is _UNKNOWN:
        apart = active.plans[layout] = rows_apart(active, plain, bank.B)
    own = None if apart is None else own_run(bank, apart)
    if not plain and len(framed) == 1 and framed[0].is_simple:
        own, framed = framed[0].as_own(), ()
    runs = _rows_runs(bank, active, plain, layout) if plain and own is None else ()

    def tall(adapter: str) -> torch.Tensor:
        made = torch.tensor(active.column(adapter), dtype=bank.A.dtype)[:, None, None]
        return made.to(bank.A.device, non_blocking=True)

    bias, gain = _extras(found, tall)
    is_bare = bias is None and gain is None
    own_alone = is_bare and not framed and own is not None and isinstance(own.weights, float)
    return RowsPlan(runs, bias, gain, own, framed, own_alone)


def _rows_runs(
    bank: FactorBank,
    active: Active,
    found: Sequence[tuple[BankView, str]],
    layout: tuple[object, ...],
) -> tuple[RowsRun, ...]:
    key = ("runs", *layout)
    spans: tuple[Span, ...] | None = active.plans.get(key)
    if spans is None:
        places = [(view.place, active.column(adapter)) for view, adapter in found]
        spans = active.plans[key] = _spans(places, bank.B, gap=_GAP, shared=False)
    return tuple(
        RowsRun(*bank.part(s.start, s.stop), s.weights, s.unused)
        for s in spans
        if isinstance(s.weights, torch.Tensor) and s.unused is not None
    )


def _spans(
    found: Sequence[Found], like: torch.Tensor, *, gap: int, shared: bool
) -> tuple[Span, ...]:
    """The runs of all layers in which these adapters have these places."""
    by_rows = sorted(found, key=lambda pair: pair[0].start)
    return tuple(_span(run, like, shared=shared) for run in _runs(by_rows, gap=gap))


def _runs(found: Sequence[Found], *, gap: int) -> Iterator[list[Found]]:
    """Split adapters, sorted by their rows, wherever more than `gap` rows lie between them."""
    run = [found[0]]
    for place, weights in found[1:]:
        if place.start - run[-1][0].stop > gap:
            yield run
            run = []
        run.append((place, weights))
    yield run


def _span(run: Sequence[Found], like: torch.Tensor, *, shared: bool) -> Span:
    start, stop = run[0][0].start, run[-1][0].stop
    numbers = checked({w * place.scale for place, weights in run for w in weights}, like.dtype)
    if shared and len(numbers) == 1:
        return Span(start, stop, numbers.pop())
    made = [[0.0] * (stop - start) for _ in run[0][1]]
    for place, weights in run:
        for row, weight in zip(made, weights, strict=True):
            row[place.start - start : place.stop - start] = [weight * place.scale] * place.rank
    with ordinary():
        # A blocking copy to a GPU would wait for all that runs on it.
        tensor = torch.tensor(made, dtype=like.dtype).to(like.device, non_blocking=True)
        return Span(start, stop, tensor[0]) if shared else Span(start, stop, tensor, tensor == 0)


def _extras(
    found: Sequence[tuple[BankView, _T]], weight_of: Callable[[_T], torch.Tensor | float]
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The mixtures' bias and gain, where any adapter has one."""
    if all(view.bias is None and view.gain is None for view, _ in found):
        return None, None
    with ordinary():
        biases = [view.bias * weight_of(of) for view, of in found if view.bias is not None]
        gains = [view.gain * weight_of(of) for view, of in found if view.gain is not None]
        return _sum(biases), _sum(gains)


def _sum(terms: Sequence[torch.Tensor]) -> torch.Tensor | None:
    return sum(terms[1:], start=terms[0]) if terms else None
