"""The factors of all loaded adapters for one layer, stacked in two matrices.

    A (R, in)     B (R, out)        R = room for the ranks of all loaded adapters

    row 0 ..  7   adapter x   r 8
    row 8 .. 23   adapter y   r 16
    row 24 .. 31  free        zeros

An adapter owns a range of rows. Free rows are zero, so that a product with the whole stack is
sound. The matrices are replaced, never resized in place: a forward pass that is under way keeps
the ones that it started with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from intrinsic.lora import Factors


@dataclass(frozen=True, slots=True)
class BankView:
    """One adapter's rows of a bank: `A (r, in)`, `B (r, out)`, their first row, and the scale s.

    `bias (out,)` is added with the scale too. `gain (out,)` multiplies the base layer's product
    `W x`, as DoRA does; B is stretched already then.
    """

    A: torch.Tensor
    B: torch.Tensor
    start: int
    scale: float
    bias: torch.Tensor | None = None
    gain: torch.Tensor | None = None

    @property
    def rank(self) -> int:
        """r, the number of rows."""
        return int(self.A.shape[0])


class FactorBank:
    """Stacked factors of one layer with `in_features` inputs and `out_features` outputs."""

    def __init__(
        self, in_features: int, out_features: int, *, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.A = torch.zeros(0, in_features, dtype=dtype, device=device)  # (R, in)
        self.B = torch.zeros(0, out_features, dtype=dtype, device=device)  # (R, out)
        self._views: dict[str, BankView] = {}

    @property
    def rows(self) -> int:
        """R, used and free."""
        return int(self.A.shape[0])

    @property
    def bytes_used(self) -> int:
        """Bytes that the stacks take, free rows included, and the biases and gains."""
        extras = [t for v in self._views.values() for t in (v.bias, v.gain) if t is not None]
        return sum(t.numel() * t.element_size() for t in (self.A, self.B, *extras))

    def get(self, adapter: str) -> BankView | None:
        """The adapter's rows, or None where it does not change this layer."""
        return self._views.get(adapter)

    def add(
        self,
        adapter: str,
        factors: Factors,
        *,
        scaling: float = 1.0,
        stretch: torch.Tensor | None = None,
    ) -> None:
        """Copy an adapter's factors into free rows, growing the stacks where there are none.

        `scaling` multiplies all that the adapter does; `stretch (out,)` is DoRA's.
        """
        start = self._first_fit(factors.rank)
        if start + factors.rank > self.rows:
            self._grow(max(start + factors.rank, self.rows + self.rows // 2))
        rows = slice(start, start + factors.rank)
        self.A[rows].copy_(factors.A)
        B, gain = factors.B, None
        if stretch is not None:
            B = B.to(stretch) * stretch[:, None]
            gain = ((stretch - 1) * scaling).to(self.B)
        self.B[rows].copy_(B.T)
        bias = None if factors.bias is None else factors.bias.to(self.B)
        scale = factors.scale * scaling
        self._views[adapter] = BankView(self.A[rows], self.B[rows], start, scale, bias, gain)

    def remove(self, adapter: str) -> None:
        """Free an adapter's rows; one that is not here is left alone."""
        view = self._views.pop(adapter, None)
        if view is None:
            return
        if not self._views:
            self.A, self.B = self.A[:0].clone(), self.B[:0].clone()
            return
        view.A.zero_()
        view.B.zero_()

    def _first_fit(self, rank: int) -> int:
        start = 0
        for view in sorted(self._views.values(), key=lambda v: v.start):
            if view.start - start >= rank:
                return start
            start = view.start + view.rank
        return start

    def _grow(self, rows: int) -> None:
        A = self.A.new_zeros(rows, self.A.shape[1])
        B = self.B.new_zeros(rows, self.B.shape[1])
        A[: self.rows].copy_(self.A)
        B[: self.rows].copy_(self.B)
        self.A, self.B = A, B
        for adapter, view in list(self._views.items()):
            held = slice(view.start, view.start + view.rank)
            self._views[adapter] = replace(view, A=A[held], B=B[held])
