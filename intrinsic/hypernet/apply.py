"""Generated weights on a live model while it is trained through: gradients reach the factors.

Serving goes through the engine; this is the slower way that autograd can follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from intrinsic.errors import HypernetError

Pairs = Sequence[tuple[Tensor, Tensor]]
"""Per target `(A, B)`: `(n, r, in)` and `(n, out, r)`; a leading 1 is shared by all n queries."""


@contextmanager
def applied(
    model: nn.Module,
    targets: Sequence[str],
    pairs: Pairs,
    scale: float,
    index: Tensor | None = None,
) -> Iterator[None]:
    """While it is open, row i of a batch is computed with the factors of query `index[i]`.

    Semantics: `y[i] = layer(x[i]) + scale · B[q] (A[q] x[i])`, `q = index[i]`. Without an index
    the rows lie query by query, as many of each: `q = i // (rows / n)`, which is the faster way.
    Shape: x `(rows, ..., in)`, index `(rows,)`. The model's weights are not touched; its hooks are
    removed however the block ends. Raises `HypernetError` where the rows cannot be shared out.
    """
    if len(targets) != len(pairs):
        raise HypernetError(
            f"{len(pairs)} pairs of factors were given for {len(targets)} layers; give one each"
        )
    handles = []
    try:
        for name, (A, B) in zip(targets, pairs, strict=True):
            hook = _Hook(_shared(A), _shared(B), scale, index)
            handles.append(model.get_submodule(name).register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Hook:
    """Adds one layer's update to what the layer gives out."""

    def __init__(self, A: Tensor, B: Tensor, scale: float, index: Tensor | None) -> None:
        self._queries = max(A.shape[0], B.shape[0])
        if index is not None:
            A, B = _taken(A, index), _taken(B, index)
        self._A, self._B, self._scale = A, B, scale
        self._rows = None if index is None else len(index)

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        x: Tensor = args[0]
        A, B = self._A.to(x.dtype), self._B.to(x.dtype)
        n = self._queries if self._rows is None else self._rows
        if x.shape[0] % n or (self._rows is not None and x.shape[0] != n):
            raise HypernetError(
                f"a batch of {x.shape[0]} rows cannot be shared out to {n} "
                f"{'queries' if self._rows is None else 'places of the index'}; give as many rows "
                "of each query"
            )
        x = x.reshape(n, -1, x.shape[-1])  # (n, rows / n · tokens, in)
        hidden = F.linear(x, A[0]) if len(A) == 1 else torch.bmm(x, A.transpose(1, 2))
        y = output.reshape(n, -1, output.shape[-1])
        up = B.expand(n, -1, -1).transpose(1, 2)  # (n, r, out)
        return torch.baddbmm(y, hidden, up, alpha=self._scale).view_as(output)


def _shared(factor: Tensor) -> Tensor:
    """`(n, ., .)`, with a leading 1 where all n are one and the same."""
    if factor.dim() == 2:
        return factor[None]
    return factor[:1] if len(factor) > 1 and factor.stride(0) == 0 else factor


def _taken(factor: Tensor, index: Tensor) -> Tensor:
    return factor if len(factor) == 1 else factor[index]
