"""The factors of all loaded adapters for one layer, stacked in two matrices.

    A (R, in)     B (R, out)        R = room for the ranks of all loaded adapters

    row 0 ..  7   adapter x   r 8
    row 8 .. 23   adapter y   r 16
    row 24 .. 31  free        anything

An adapter owns a range of rows, or shares one, as a frame, with others that each have a core of
their own. Free rows hold whatever they held, and nothing ever reads them. The
matrices are replaced, never resized in place: a forward pass that is under way keeps the ones that
it started with. They grow by half or more, so that an adapter is copied about twice on average,
however many are loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from intrinsic.engine.frame import Frame
from intrinsic.engine.layout import FreeRows, Place
from intrinsic.engine.prepared import Prepared


@dataclass(frozen=True, slots=True)
class BankView:
    """One adapter's rows of a bank: `A (r, in)`, `B (r, out)`, and where they are.

    `bias (out,)` and `gain (out,)` are those that were prepared. With a `frame` the rows may be
    those of other adapters too, and its `slot` has the core.
    """

    A: torch.Tensor
    B: torch.Tensor
    place: Place
    bias: torch.Tensor | None = None
    gain: torch.Tensor | None = None
    frame: Frame | None = None
    slot: int = 0

    @property
    def core(self) -> torch.Tensor | None:
        """`(r, r)`, where there is a frame."""
        return None if self.frame is None else self.frame.cores[self.slot]

    @property
    def rank(self) -> int:
        """r, the number of rows."""
        return int(self.A.shape[0])


class FactorBank:
    """Stacked factors of one layer with `in_features` inputs and `out_features` outputs."""

    def __init__(
        self, in_features: int, out_features: int, *, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.A = torch.empty(0, in_features, dtype=dtype, device=device)  # (R, in)
        self.B = torch.empty(0, out_features, dtype=dtype, device=device)  # (R, out)
        self._views: dict[str, BankView] = {}
        self._parts: dict[tuple[int, ...], tuple[torch.Tensor, torch.Tensor]] = {}
        self._frames: dict[object, Frame] = {}
        self._free = FreeRows()

    @property
    def rows(self) -> int:
        """R, used and free."""
        return int(self.A.shape[0])

    @property
    def bytes_used(self) -> int:
        """Bytes that the stacks take, free rows included, and the biases and gains."""
        views = list(self._views.values())  # which a load in another thread may add to
        extras = [t for v in views for t in (v.bias, v.gain) if t is not None]
        extras += [frame.cores for frame in list(self._frames.values())]
        return sum(t.numel() * t.element_size() for t in (self.A, self.B, *extras))

    def get(self, adapter: str) -> BankView | None:
        """The adapter's rows, or None where it does not change this layer."""
        return self._views.get(adapter)

    def serves(self, adapters: Sequence[str]) -> bool:
        """Whether any of these changes this layer."""
        return any(adapter in self._views for adapter in adapters)

    def has_plain(self, adapters: Sequence[str]) -> bool:
        """Whether any of these has rows of its own here."""
        views = self._views
        return any((view := views.get(a)) is not None and view.frame is None for a in adapters)

    def part(self, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows of the stacks: `A.T (in, R)`, as products take it, and `B (R, out)`."""
        parts = self._parts  # a load in another thread replaces it with the stacks
        found = parts.get((start, stop))
        if found is None:
            found = parts[start, stop] = (self.A[start:stop].T, self.B[start:stop])
        return found

    def by_row(self, start: int, count: int, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The same of `count` ranges side by side: `(count, in, rank)` and `(count, rank, out)`."""
        parts = self._parts
        found = parts.get((start, count, rank))
        if found is None:
            rows = slice(start, start + count * rank)
            A, B = (stack[rows].view(count, rank, -1) for stack in (self.A, self.B))
            found = parts[start, count, rank] = (A.transpose(1, 2), B)
        return found

    def add(self, adapter: str, prepared: Prepared) -> None:
        """Copy an adapter's factors into free rows, growing the stacks where there are none.

        Of one with a core only that is copied, where the frame is here.
        """
        if prepared.core is not None:
            self._add_core(adapter, prepared, prepared.core)
            return
        start = self._filled(prepared)
        place = Place(adapter, start, prepared.rank, prepared.scale)
        rows = slice(start, place.stop)
        self._views[adapter] = BankView(
            self.A[rows], self.B[rows], place, prepared.bias, prepared.gain
        )

    def _add_core(self, adapter: str, prepared: Prepared, core: torch.Tensor) -> None:
        frame = self._frames.get(prepared.shared)
        if frame is None:
            start = self._filled(prepared)
            source = prepared.shared, prepared.A, prepared.B
            frame = self._frames[prepared.shared] = Frame(start, source, like=self.B)
        try:
            slot = frame.add(core)
        except BaseException:
            self._release(frame)
            raise
        place = Place(adapter, frame.start, prepared.rank, prepared.scale)
        rows = slice(place.start, place.stop)
        self._views[adapter] = BankView(self.A[rows], self.B[rows], place, frame=frame, slot=slot)

    def _filled(self, prepared: Prepared) -> int:
        """Copy factors into free rows; the first of them."""
        start = self._free.take(prepared.rank)
        try:
            if self._free.end > self.rows:
                self._grow(max(self._free.end, self.rows + self.rows // 2))
            rows = slice(start, start + prepared.rank)
            self.A[rows].copy_(prepared.A, non_blocking=True)
            _copy_turned(self.B[rows], prepared.B)
        except BaseException:
            self._free.give(start, prepared.rank)
            raise
        return start

    def remove(self, adapter: str) -> None:
        """Free an adapter's rows; one that is not here is left alone."""
        view = self._views.pop(adapter, None)
        if view is not None and view.frame is not None:
            view.frame.remove(view.slot)
            self._release(view.frame)
        elif view is not None:
            self._free.give(view.place.start, view.rank)
        if not self._views:
            self.A, self.B = (
                self.A.new_empty(0, self.A.shape[1]),
                self.B.new_empty(0, self.B.shape[1]),
            )
            self._parts = {}

    def _release(self, frame: Frame) -> None:
        """Free the rows of a frame that nobody uses."""
        if not frame.users:
            del self._frames[frame.source[0]]
            self._free.give(frame.start, frame.rank)

    def _grow(self, rows: int) -> None:
        A = self.A.new_empty(rows, self.A.shape[1])
        B = self.B.new_empty(rows, self.B.shape[1])
        A[: self.rows].copy_(self.A)
        B[: self.rows].copy_(self.B)
        self.A, self.B = A, B
        self._parts = {}
        for adapter, view in list(self._views.items()):
            held = slice(view.place.start, view.place.stop)
            self._views[adapter] = replace(view, A=A[held], B=B[held])


def _copy_turned(into: torch.Tensor, B: torch.Tensor) -> None:
    """Shape: B `(out, r)` to into `(r, out)`."""
    if into.device == B.device:
        torch.mul(B.T, 1, out=into)  # sooner than copy_ where rows become columns
    else:
        into.copy_(B.to(into.device, non_blocking=True).T)
