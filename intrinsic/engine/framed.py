"""Adapters that share their factors as a frame, and have nothing of their own but a core.

    x ──── A (r, in) ──── core (r, r), per row ──── × w s ──── B (r, out) ──── +

However many of them a batch uses, a layer's factors are read once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, TypeVar

import torch

from intrinsic.engine.active import Active
from intrinsic.engine.bank import BankView, FactorBank
from intrinsic.engine.frame import Frame
from intrinsic.engine.ordinary import ordinary
from intrinsic.engine.own_rows import OwnRun
from intrinsic.errors import MixtureError

_T = TypeVar("_T")

MOST_MULTIPLIED = 2**16
"""So many numbers of `core B` are made at most, which spares a product at each pass."""


class FramedSpan(NamedTuple):
    """Rows of a bank under one mixture: the weight times the scale, and the core `(r, r)`."""

    start: int
    stop: int
    weight: float
    core: torch.Tensor


class FramedRun(NamedTuple):
    """Rows of a bank, `At (in, r)`, and what each row of the batch has instead of a B.

    That is `weight` times `cores (rows, r, r)` times `B (r, out)`, or, where `cores` is None, times
    `B (rows, r, out)`. `unused (rows, 1, 1)` marks the rows that use none, if there are any.
    """

    At: torch.Tensor
    B: torch.Tensor
    cores: torch.Tensor | None
    weight: float
    unused: torch.Tensor | None

    @property
    def is_simple(self) -> bool:
        """Whether two products are all of it."""
        return self.cores is None and self.unused is None

    def as_own(self) -> OwnRun:
        """The same where it is simple, as rows that each use factors of their own."""
        return OwnRun(self.At.expand(len(self.B), -1, -1), self.B, self.weight)


class _Chosen(NamedTuple):
    """Which slots of a frame the rows use, in any layer where they lie so.

    `weights (rows, slots)` make each row's sum; without, each has one. Either is times `weight`.
    """

    slots: torch.Tensor | slice
    weight: float
    weights: torch.Tensor | None
    unused: torch.Tensor | None


def framed_shared(found: Sequence[tuple[BankView, float]], like: torch.Tensor) -> list[FramedSpan]:
    """What one mixture adds through frames: of one frame the sum `Σ w s C` is one core."""
    spans = []
    for frame, of_frame in _by_frame(found):
        numbers = [weight * view.place.scale for view, weight in of_frame]
        checked(set(numbers), like.dtype)
        stop = frame.start + frame.rank
        first = of_frame[0][0].core
        if len(of_frame) == 1 and first is not None:
            spans.append(FramedSpan(frame.start, stop, numbers[0], first))
            continue
        with ordinary():
            slots = _indices([view.slot for view, _ in of_frame], like)
            most = _most(numbers)
            core = _sums(frame.cores[slots], _weights([numbers], like, most))[0]
        spans.append(FramedSpan(frame.start, stop, most, core))
    return spans


def framed_rows(
    bank: FactorBank, active: Active, found: Sequence[tuple[BankView, str]]
) -> tuple[FramedRun, ...]:
    """What a mixture per row adds through frames."""
    return tuple(_run(bank, active, *of_frame) for of_frame in _by_frame(found))


def _run(
    bank: FactorBank, active: Active, frame: Frame, of_frame: Sequence[tuple[BankView, str]]
) -> FramedRun:
    layout = ((view.place, view.slot) for view, _ in of_frame)
    key = ("framed", bank.B.dtype, bank.B.device, *layout)
    chosen: _Chosen | None = active.plans.get(key)
    with ordinary():
        if chosen is None:
            chosen = active.plans[key] = _chosen(active, of_frame, bank.B)
        cores = frame.cores[chosen.slots]
        if chosen.weights is not None:
            cores = _sums(cores, chosen.weights)
        At, B = bank.part(frame.start, frame.start + frame.rank)
        if cores.shape[0] * B.numel() > MOST_MULTIPLIED:
            return FramedRun(At, B, cores, chosen.weight, chosen.unused)
        return FramedRun(At, torch.matmul(cores, B), None, chosen.weight, chosen.unused)


def _chosen(
    active: Active, of_frame: Sequence[tuple[BankView, str]], like: torch.Tensor
) -> _Chosen:
    columns = [active.column(adapter) for _, adapter in of_frame]
    scales = [view.place.scale for view, _ in of_frame]
    rows = [
        [weight * scale for weight, scale in zip(row, scales, strict=True)]
        for row in zip(*columns, strict=True)
    ]
    checked({number for row in rows for number in row}, like.dtype)
    slots = [view.slot for view, _ in of_frame]
    used = [[at for at, number in enumerate(row) if number] for row in rows]
    numbers = {number for row in rows for number in row if number}
    if len(numbers) == 1 and all(len(row) == 1 for row in used):
        return _Chosen(_places([slots[row[0]] for row in used], like), numbers.pop(), None, None)
    bare, unused = [not row for row in used], None
    if any(bare):
        unused = torch.tensor(bare)[:, None, None].to(like.device, non_blocking=True)
    most = _most(numbers)
    return _Chosen(_indices(slots, like), most, _weights(rows, like, most), unused)


def _places(slots: list[int], like: torch.Tensor) -> torch.Tensor | slice:
    if slots == list(range(slots[0], slots[0] + len(slots))):
        return slice(slots[0], slots[0] + len(slots))
    return _indices(slots, like)


def _indices(slots: list[int], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(slots).to(like.device, non_blocking=True)


def _most(numbers: Collection[float]) -> float:
    """The largest magnitude: what sums are multiplied with at last, so that cores stay small."""
    return max(map(abs, numbers), default=0.0) or 1.0


def _weights(numbers: Sequence[Sequence[float]], like: torch.Tensor, most: float) -> torch.Tensor:
    """The numbers in parts of `most`."""
    wide = torch.promote_types(like.dtype, torch.float32)
    # A blocking copy to a GPU would wait for all that runs on it.
    return torch.tensor(numbers, dtype=wide).div_(most).to(like.device, non_blocking=True)


def _sums(cores: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Sums of cores in at least fp32, rounded once: `(n, adapters)` to `(n, r, r)`."""
    found = weights @ cores.to(weights.dtype).flatten(1)
    return found.view(len(weights), *cores.shape[1:]).to(cores.dtype)


def _by_frame(
    found: Sequence[tuple[BankView, _T]],
) -> list[tuple[Frame, list[tuple[BankView, _T]]]]:
    frames: dict[int, tuple[Frame, list[tuple[BankView, _T]]]] = {}
    for view, of in found:
        if view.frame is not None:
            frames.setdefault(view.frame.start, (view.frame, []))[1].append((view, of))
    return list(frames.values())


def checked(numbers: set[float], dtype: torch.dtype) -> set[float]:
    """Weights times scales, as they are. Raises `MixtureError` for one beyond the dtype."""
    largest = max(map(abs, numbers))
    if not largest <= torch.finfo(dtype).max:
        raise MixtureError(
            f"a weight times its adapter's scale is {largest:g}, too large for {dtype}; "
            "lower the weight"
        )
    return numbers
