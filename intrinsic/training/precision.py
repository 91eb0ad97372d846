"""Which number format the training's matrix products use on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

SHAPE = (1024, 256, 640)
ROUNDS = 9
WORTH = 1.3


def faster_dtype() -> torch.dtype:
    """bfloat16 where this processor multiplies it clearly faster than float32, else float32.

    Measured, for processors without bf16 instructions emulate them fifty times slower.
    """
    return torch.bfloat16 if _speedup() > WORTH else torch.float32


def autocast(dtype: torch.dtype, device: str = "cpu") -> AbstractContextManager[None]:
    """Forward passes inside multiply in `dtype` on that kind of device; sums stay float32."""
    return torch.autocast(device, dtype=torch.bfloat16, enabled=dtype is torch.bfloat16)


@contextmanager
def without_denormals() -> Iterator[None]:
    """Numbers too small for a normal float are 0 meanwhile: they would take many times as long."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _speedup() -> float:
    return _product_s(torch.float32) / _product_s(torch.bfloat16)


def _product_s(dtype: torch.dtype) -> float:
    """Seconds of one matrix product, the best of a few."""
    rows, inner, cols = SHAPE
    left, right = torch.ones(rows, inner, dtype=dtype), torch.ones(inner, cols, dtype=dtype)
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        torch.mm(left, right)
        times.append(time.perf_counter() - started)
    return min(times)
