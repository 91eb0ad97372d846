"""Mann–Whitney against published examples, and against counting every arrangement."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, norm, rankdata

from intrinsic.registry.rank_test import exact_p, least_p, mann_whitney

# SAS/STAT User's Guide, The NPAR1WAY Procedure, "Two-Sample Location Tests and Plots": response of
# arthritis patients from 1 (poor) to 5 (excellent); rank sum of the active group 999.0, Z 2.9466.
ACTIVE = [5] * 5 + [4] * 11 + [3] * 5 + [2] * 1 + [1] * 5
PLACEBO = [5] * 2 + [4] * 4 + [3] * 7 + [2] * 7 + [1] * 12

# The same chapter, "Exact Wilcoxon Two-Sample Test": reaction times of 13 and 6 people with many
# ties; exact two-sided p 0.1054.
FIRST = [1.94] * 2 + [2.92] * 4 + [3.27] * 4 + [3.70] * 2 + [3.74]
SECOND = [3.27] * 3 + [3.70] * 2 + [3.74]

# Hollander & Wolfe, Nonparametric Statistical Methods, 1973, p. 69f., in R's ?wilcox.test: no ties,
# W = 35, one-sided exact p 0.1272.
AT_TERM = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46]
EARLY = [1.15, 0.88, 0.90, 0.74, 1.21]


def by_counting(a: list[int], b: list[int]) -> float:
    """The slow reference: every way to draw the first group."""
    ranks = rankdata([*a, *b]).tolist()
    seen = sum(ranks[: len(a)])
    sums = [sum(drawn) for drawn in combinations(ranks, len(a))]
    low = sum(one <= seen for one in sums) / len(sums)
    high = sum(one >= seen for one in sums) / len(sums)
    return float(min(2 * min(low, high), 1.0))


def test_published_ratings_with_ties_by_the_normal_approximation() -> None:
    found = mann_whitney(ACTIVE * 3, PLACEBO * 3)
    assert not found.exact
    # By hand: 999 - 27 * 28 / 2 = 621 of 27 * 32 pairs are won, half of the ties counted.
    assert found.effect == pytest.approx(2 * 621 / (27 * 32) - 1)
    expected = mannwhitneyu(ACTIVE, PLACEBO, method="asymptotic")
    assert expected.statistic == 621
    assert expected.pvalue == pytest.approx(0.0032, abs=5e-5)  # as SAS prints
    exact = mann_whitney(ACTIVE, PLACEBO)
    assert exact.exact
    assert exact.p == pytest.approx(0.0032, abs=5e-4)


def test_a_published_exact_example_with_ties() -> None:
    found = mann_whitney(FIRST, SECOND)
    assert found.exact
    assert found.p == pytest.approx(0.1054, abs=5e-5)
    # By hand: 79.5 - 6 * 7 / 2 = 58.5 of 13 * 6 pairs are won by the second.
    assert found.effect == pytest.approx(1 - 2 * 58.5 / 78)


def test_a_published_exact_example_without_ties() -> None:
    found = mann_whitney(AT_TERM, EARLY)
    assert found.p / 2 == pytest.approx(0.1272, abs=5e-5)
    assert found.effect == pytest.approx(2 * 35 / 50 - 1)
    assert found.p == pytest.approx(mannwhitneyu(AT_TERM, EARLY, method="exact").pvalue)


def test_the_variance_is_corrected_for_ties() -> None:
    # Lehmann, Nonparametrics, 1975, p. 20: σ² = n₁ n₂ / 12 (N + 1 - Σ (t³ - t) / (N (N - 1))).
    a, b = [5] * 60 + [4] * 40, [5] * 40 + [4] * 60
    variance = 100 * 100 / 12 * (201 - 2 * (100**3 - 100) / (200 * 199))
    u = 60 * 60 + (60 * 40 + 40 * 60) / 2
    z = (u - 5000 - 0.5) / variance**0.5
    assert mann_whitney(a, b).p == pytest.approx(2 * norm.sf(z))


@pytest.mark.parametrize("seed", range(12))
def test_exact_is_what_counting_gives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(1, 6, size=rng.integers(1, 7)).tolist() for _ in range(2))
    assert exact_p(a, b) == pytest.approx(by_counting(a, b))
    assert exact_p(b, a) == pytest.approx(exact_p(a, b))


def test_exact_and_approximate_agree_where_they_meet() -> None:
    rng = np.random.default_rng(3)
    for low in (1, 2):
        a, b = rng.integers(1, 6, size=45), rng.integers(low, 6, size=45)
        found = mann_whitney(a.tolist(), b.tolist())
        assert found.exact
        assert found.p == pytest.approx(mannwhitneyu(a, b, method="asymptotic").pvalue, rel=0.05)


def test_the_other_way_round_is_the_same_with_another_sign() -> None:
    one, other = mann_whitney(ACTIVE, PLACEBO), mann_whitney(PLACEBO, ACTIVE)
    assert one.effect == pytest.approx(-other.effect)
    assert one.p == pytest.approx(other.p)
    assert mann_whitney([5] * 4, [1] * 4).effect == 1


def test_ratings_that_all_agree_do_not_differ() -> None:
    for n in (1, 8, 500):
        found = mann_whitney([5] * n, [5] * n)
        assert (found.effect, found.p) == (0.0, 1.0)


@pytest.mark.parametrize(("a", "b"), [(3, 3), (4, 4), (2, 8), (1, 40), (1, 1)])
def test_least_p_is_that_of_groups_that_do_not_overlap(a: int, b: int) -> None:
    found = exact_p(list(range(a)), list(range(100, 100 + b)))
    assert least_p(a, b) == pytest.approx(found) == pytest.approx(min(2 / comb(a + b, a), 1))
