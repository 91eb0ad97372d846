"""`W' = W + Σ wᵢ sᵢ Bᵢ Aᵢ`: what the arithmetic of mixtures promises."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from intrinsic.lora import Factors, delta, mixed_weight

WEIGHTS = st.floats(-3, 3, allow_nan=False, width=32)
RANKS = st.integers(1, 6)


def factors(rank: int, seed: int, scale: float = 0.5) -> Factors:
    generator = torch.Generator().manual_seed(seed)
    A = torch.randn(rank, 7, generator=generator, dtype=torch.float64)
    B = torch.randn(5, rank, generator=generator, dtype=torch.float64)
    return Factors(A, B, scale)


W = torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(9))


@given(RANKS, RANKS, WEIGHTS, WEIGHTS)
def test_a_mixture_is_the_sum_over_entries_computed_one_by_one(
    r1: int, r2: int, w1: float, w2: float
) -> None:
    a, b = factors(r1, 1), factors(r2, 2, scale=2.0)
    slow = W.clone()
    for out in range(5):
        for into in range(7):
            for f, w in ((a, w1), (b, w2)):
                for k in range(f.rank):
                    slow[out, into] += w * f.scale * f.B[out, k] * f.A[k, into]
    torch.testing.assert_close(mixed_weight(W, [(a, w1), (b, w2)]), slow)


@given(RANKS, WEIGHTS, WEIGHTS)
def test_weights_of_one_adapter_add_up(rank: int, w1: float, w2: float) -> None:
    f = factors(rank, 3)
    torch.testing.assert_close(delta(f, w1) + delta(f, w2), delta(f, w1 + w2))


def test_linear_combination_of_factors_is_not_the_meaning() -> None:
    """PEFT's `linear` mixes A and B apart, which adds cross terms; the sum has none."""
    a, b = factors(4, 1, scale=1.0), factors(4, 2, scale=1.0)
    exact = delta(a, 0.7) + delta(b, 0.3)
    crossed = (0.7**0.5 * a.B + 0.3**0.5 * b.B) @ (0.7**0.5 * a.A + 0.3**0.5 * b.A)
    assert (crossed - exact).norm() / exact.norm() > 0.5


def test_zero_weight_adds_nothing_and_the_base_is_not_written() -> None:
    before = W.clone()
    assert torch.equal(mixed_weight(W, [(factors(3, 1), 0.0)]), before)
    mixed_weight(W, [(factors(3, 1), 2.0)])
    assert torch.equal(W, before)


def test_half_precision_factors_are_accumulated_wide() -> None:
    f = factors(4, 1)
    half = Factors(f.A.half(), f.B.half(), f.scale)
    wide = Factors(f.A.half().double(), f.B.half().double(), f.scale)
    assert torch.equal(delta(half), delta(wide))
