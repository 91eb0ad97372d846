"""Merge methods on ΔW: each against its formula, written out slowly."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from intrinsic.errors import ConfigError, MixtureError, PluginError
from intrinsic.lora import (
    MERGE_METHODS,
    MergeOptions,
    dare,
    dare_ties,
    exact,
    magnitude_prune,
    merge_method,
    svd,
    ties,
)
from intrinsic.lora.dare import drop
from intrinsic.lora.merge_options import apply_checked, bound
from intrinsic.lora.prune import keep_largest
from intrinsic.lora.svd import near_truncated, truncated, truncated_product

QUARTERS = st.integers(-8, 8).map(lambda n: n / 4)
"""Numbers whose sums and products are exact, so that no sign hangs on rounding; many are equal."""

DENSITIES = st.sampled_from([0.1, 0.25, 0.5, 0.8, 1.0])


def matrices(count: int = 2) -> st.SearchStrategy[list[torch.Tensor]]:
    row = st.lists(QUARTERS, min_size=3, max_size=3)
    matrix = st.lists(row, min_size=4, max_size=4)
    wide = matrix.map(lambda m: torch.tensor(m, dtype=torch.float64))
    return st.lists(wide, min_size=count, max_size=count)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def slow_top(values: Sequence[float], density: float) -> list[float]:
    kept = max(1, round(density * len(values)))
    order = sorted(range(len(values)), key=lambda i: (-abs(values[i]), i))
    return [value if i in order[:kept] else 0.0 for i, value in enumerate(values)]


def slow_ties(
    deltas: Sequence[torch.Tensor], weights: Sequence[float], density: float
) -> torch.Tensor:
    trimmed = [slow_top(delta.flatten().tolist(), density) for delta in deltas]
    merged = []
    for values in zip(*trimmed, strict=True):
        terms = [weight * value for weight, value in zip(weights, values, strict=True)]
        mass = sum(terms)
        agree = [i for i, term in enumerate(terms) if term * mass > 0]
        share = sum(abs(weights[i]) for i in agree)
        everyone = sum(abs(weight) for weight in weights)
        merged.append(everyone * sum(terms[i] for i in agree) / share if agree else 0.0)
    return torch.tensor(merged, dtype=torch.float64).view(deltas[0].shape)


@given(matrices(3), st.tuples(QUARTERS, QUARTERS, QUARTERS), DENSITIES)
def test_ties_is_its_formula(
    deltas: list[torch.Tensor], weights: tuple[float, ...], density: float
) -> None:
    torch.testing.assert_close(
        ties(deltas, weights, density=density), slow_ties(deltas, weights, density)
    )


@given(matrices(3), DENSITIES)
def test_ties_of_equal_weights_is_the_papers_mean_over_those_who_agree(
    deltas: list[torch.Tensor], density: float
) -> None:
    trimmed = torch.stack([keep_largest(delta, density) for delta in deltas])
    sign = trimmed.sum(0).sign()
    agrees = (trimmed.sign() == sign) & (sign != 0)
    mean = (trimmed * agrees).sum(0) / agrees.sum(0).clamp(min=1)
    torch.testing.assert_close(ties(deltas, [0.5] * 3, density=density), 1.5 * mean)


def test_ties_where_all_agree_and_nothing_is_trimmed_is_the_exact_sum() -> None:
    deltas = [random(5, 7, seed=i).abs() for i in range(3)]
    weights = [0.7, 0.3, 2.0]
    torch.testing.assert_close(ties(deltas, weights, density=1.0), exact(deltas, weights))
    opposed = [deltas[0], -deltas[1]]
    torch.testing.assert_close(ties(opposed, [1, -0.5], density=1.0), exact(opposed, [1, -0.5]))


@given(matrices(1), DENSITIES)
def test_as_many_values_are_kept_as_asked_and_the_largest(
    deltas: list[torch.Tensor], density: float
) -> None:
    kept = keep_largest(deltas[0], density).flatten().tolist()
    assert kept == slow_top(deltas[0].flatten().tolist(), density)


def test_magnitude_prune_looks_at_the_product_and_not_at_the_factors() -> None:
    """Trap 1: the smallest value of a factor may be part of the largest value of ΔW."""
    B = torch.tensor([[1.0, 0.0], [0.0, 0.1]])
    A = torch.tensor([[1.0, 0.5], [0.2, 100.0]])
    delta = B @ A  # [[1, 0.5], [0.02, 10]]
    pruned = magnitude_prune([delta], [2.0], density=0.25)
    assert pruned.tolist() == [[0.0, 0.0], [0.0, 20.0]]
    of_factors = keep_largest(B, 0.25) @ keep_largest(A, 0.25)
    assert of_factors[1, 1] == 0.0


def test_dare_on_average_over_seeds_is_the_exact_sum() -> None:
    deltas, weights = [random(6, 8, seed=1), random(6, 8, seed=2)], [0.7, -0.3]
    wanted = exact(deltas, weights)
    drawn = [dare(deltas, weights, density=0.5, seed=seed) for seed in range(2000)]
    mean = torch.stack(drawn).mean(0)
    assert (mean - wanted).norm() / wanted.norm() < 0.05
    assert (drawn[0] - wanted).norm() / wanted.norm() > 0.3


def test_dare_keeps_the_share_that_is_asked_and_rescales_it() -> None:
    delta = random(200, 200)
    kept = dare([delta], [1.0], density=0.1)
    assert abs(float((kept != 0).double().mean()) - 0.1) < 0.01
    torch.testing.assert_close(kept[kept != 0], delta[kept != 0] / 0.1)
    assert torch.equal(dare([delta], [1.0], density=1.0), delta)


def test_what_dare_drops_hangs_on_seed_layer_and_place_by_content() -> None:
    delta = random(20, 20)
    draw = dare([delta], [1.0], seed=3, module="layers.1.q_proj")
    assert torch.equal(draw, dare([delta], [1.0], seed=3, module="layers.1.q_proj"))
    assert not torch.equal(draw, dare([delta], [1.0], seed=4, module="layers.1.q_proj"))
    assert not torch.equal(draw, dare([delta], [1.0], seed=3, module="layers.2.q_proj"))
    digest = hashlib.sha256(b"3:0:layers.1.q_proj").digest()
    seed = int.from_bytes(digest[:8], "big") // 2
    assert torch.equal(draw, drop(delta, 0.5, seed))
    both = dare([delta, delta], [1.0, -1.0])
    assert float(both.abs().max()) > 0.0


def test_drawing_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    dare([random(4, 4)], [1.0])
    near_truncated(random(1100, 1100), 2)
    assert torch.equal(torch.rand(3), wanted)


def test_dare_ties_elects_among_what_was_not_dropped() -> None:
    deltas, weights = [random(9, 9, seed=1), random(9, 9, seed=2)], [0.6, 0.4]
    dropped = [
        dare([d], [1.0], density=0.5, seed=7, module="m") if i == 0 else None
        for i, d in enumerate(deltas)
    ]
    second = dare([torch.zeros(9, 9), deltas[1]], [0.0, 1.0], density=0.5, seed=7, module="m")
    assert dropped[0] is not None
    wanted = slow_ties([dropped[0], second], weights, density=1.0)
    merged = dare_ties(deltas, weights, density=0.5, seed=7, module="m")
    torch.testing.assert_close(merged, wanted)


def test_svd_at_full_rank_is_the_exact_sum() -> None:
    deltas, weights = [random(6, 9, seed=1), random(6, 9, seed=2)], [0.7, -1.3]
    torch.testing.assert_close(svd(deltas, weights, rank=6), exact(deltas, weights))
    torch.testing.assert_close(svd(deltas, weights, rank=99), exact(deltas, weights))


@given(st.integers(1, 5), st.integers(0, 1000))
def test_no_matrix_of_that_rank_is_nearer_than_svds(rank: int, seed: int) -> None:
    """Eckart-Young: what is left is the tail of the singular values, and no candidate beats it."""
    delta = random(6, 9, seed=seed)
    best = svd([delta], [1.0], rank=rank)
    assert int(torch.linalg.matrix_rank(best)) == rank
    left = float((delta - best).norm())
    tail = float(torch.linalg.svdvals(delta)[rank:].norm())
    assert math.isclose(left, tail, rel_tol=1e-9)
    other = random(6, rank, seed=seed + 1) @ random(rank, 9, seed=seed + 2)
    stretch = (other * delta).sum() / other.norm() ** 2
    assert float((delta - stretch * other).norm()) > left


@given(st.integers(1, 12), st.integers(1, 9))
def test_the_svd_of_a_product_needs_no_product(inner: int, rank: int) -> None:
    B, A = random(8, inner, seed=1), random(inner, 7, seed=2)
    fast_B, fast_A = truncated_product(B, A, rank)
    slow_B, slow_A = truncated(B @ A, rank)
    assert fast_B.shape[1] <= rank
    torch.testing.assert_close(fast_B @ fast_A, slow_B @ slow_A)


def test_large_layers_are_cut_nearly_as_well_and_the_same_each_time() -> None:
    low = random(1040, 8, seed=1) @ random(8, 1030, seed=2)
    for delta in (random(1040, 1030), ties([low], [1.0], density=0.3)):
        (B, A), (best_B, best_A) = near_truncated(delta, 8), truncated(delta, 8)
        near, best = (delta - B @ A).norm(), (delta - best_B @ best_A).norm()
        assert near <= best * 1.01
        assert torch.equal(near_truncated(delta, 8)[0], B)
    B, A = near_truncated(low, 8)
    torch.testing.assert_close(B @ A, low)


LEGAL = [[0.7, 0.3], [-0.5, 2.0], [0.0, 1.0], [0.0, 0.0], [3.0, 3.0]]


@pytest.mark.parametrize("name", MERGE_METHODS)
@pytest.mark.parametrize("weights", LEGAL, ids=str)
def test_any_weights_are_legal(name: str, weights: list[float]) -> None:
    """Trap 3: negative, zero, not summing to 1; a weight of 0 is as if it were not there."""
    deltas = [random(5, 4, seed=1), random(5, 4, seed=2)]
    before = [delta.clone() for delta in deltas]
    made = merge_method(name)(deltas, weights)
    assert torch.isfinite(made).all()
    assert all(torch.equal(a, b) for a, b in zip(deltas, before, strict=True))
    if not any(weights):
        assert not made.any()
    if weights == [0.0, 1.0] and not name.startswith("dare"):
        torch.testing.assert_close(made, merge_method(name)(deltas[1:], weights[1:]))


@pytest.mark.parametrize("name", MERGE_METHODS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_sums_are_wide_and_the_same_every_time(name: str, dtype: torch.dtype) -> None:
    deltas = [random(5, 4, seed=1).to(dtype), random(5, 4, seed=2).to(dtype)]
    made = merge_method(name)(deltas, [0.7, 0.3])
    assert made.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.equal(made, merge_method(name)(deltas, [0.7, 0.3]))


@pytest.mark.parametrize("name", MERGE_METHODS)
def test_deltas_that_do_not_belong_together_are_refused(name: str) -> None:
    method = merge_method(name)
    with pytest.raises(MixtureError, match="2 deltas and 1 weights"):
        method([random(2, 2), random(2, 2)], [1.0])
    with pytest.raises(MixtureError, match="0 deltas"):
        method([], [])
    with pytest.raises(MixtureError, match=r"shapes \[\(2, 2\), \(2, 3\)\]"):
        method([random(2, 2), random(2, 3)], [1.0, 1.0])


@pytest.mark.parametrize("density", [0.0, -0.1, 1.1, math.nan])
def test_a_density_is_a_share(density: float) -> None:
    for method in (ties, dare, dare_ties, magnitude_prune):
        with pytest.raises(ConfigError, match="share of values to keep"):
            method([random(2, 2)], [1.0], density=density)
    with pytest.raises(ConfigError, match="density is"):
        MergeOptions(density=density)


def test_other_values_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="rank is 0; it must be 1 or more"):
        MergeOptions(rank=0)
    with pytest.raises(ConfigError, match="rank is -1"):
        svd([random(2, 2)], [1.0], rank=-1)
    with pytest.raises(ConfigError, match="dtype is 'int8'; it must be one of float32, float16"):
        MergeOptions(dtype="int8")
    with pytest.raises(ConfigError, match="unknown merge method 'tise'; known: dare, dare_ties"):
        merge_method("tise")


def test_a_method_gets_what_it_takes_and_says_what_it_does_not() -> None:
    def asks(deltas: object, weights: object, **given: object) -> torch.Tensor:
        assert given == {"density": 0.5, "seed": 2, "module": "m"}
        return torch.zeros(1)

    options = MergeOptions(density=0.5, seed=2)
    bound(asks, options, name="asks", module="m")([], [])
    bound(max, MergeOptions(), name="max")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="'exact' takes no density; it takes no parameter"):
        bound(exact, options, name="exact")
    with pytest.raises(ConfigError, match="'ties' takes no seed; it takes density"):
        bound(ties, options, name="ties")
    with pytest.raises(ConfigError, match="'x' is 3; it must be a function"):
        bound(3, options, name="x")  # type: ignore[arg-type]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", MERGE_METHODS)
def test_the_gpu_gives_what_the_cpu_gives(name: str) -> None:
    deltas = [random(40, 30, seed=1), random(40, 30, seed=2)]
    there = merge_method(name)([delta.cuda() for delta in deltas], [0.7, -0.3])
    torch.testing.assert_close(there.cpu(), merge_method(name)(deltas, [0.7, -0.3]))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (None, "returned NoneType"),
        (torch.ones(4), r"float32 of shape \(4,\)"),
        (torch.ones(1, 3), r"float32 of shape \(1, 3\)"),
        (torch.ones(4, 3, dtype=torch.int64), r"int64 of shape \(4, 3\)"),
        (torch.ones(4, 3, dtype=torch.complex64), "complex64"),
        (torch.ones(4, 3).to_sparse(), "float32"),
    ],
    ids=repr,
)
def test_what_is_no_delta_of_the_layers_shape_is_refused(made: object, words: str) -> None:
    def method(deltas: object, weights: object) -> torch.Tensor:
        return made  # type: ignore[return-value]

    with pytest.raises(PluginError, match=f"'odd'.*{words}.*for layer; it must return a dense"):
        apply_checked(method, [torch.ones(4, 3)], [1.0], name="odd", module="layer")
