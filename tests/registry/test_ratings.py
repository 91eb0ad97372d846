"""The interval of a mean rating stays on the scale, has a width, and holds what it promises."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import t as student

from intrinsic.errors import ConfigError
from intrinsic.registry.ratings import (
    Rating,
    mean_interval,
    summarise_criteria,
    summarise_ratings,
)


def interval(*counts: int) -> tuple[float, float]:
    found = mean_interval(counts)
    assert found is not None
    return found


def evidence_by_search(counts: Sequence[int], mean: float) -> float:
    """The slow reference: the best distribution over 1..5 with that mean, found by search."""
    n = np.array(counts, dtype=float)
    there = n > 0

    def unlikely(p: Any) -> float:
        return -float(np.sum(n[there] * np.log(np.maximum(p[there], 1e-300))))

    shares = n / n.sum()
    best = unlikely(shares)
    constraints = [
        {"type": "eq", "fun": lambda p: p.sum() - 1},
        {"type": "eq", "fun": lambda p: p @ np.arange(1, 6) - mean},
    ]
    start = np.full(5, 0.2)
    found = minimize(
        unlikely,
        start,
        method="SLSQP",
        bounds=[(0, 1)] * 5,
        constraints=constraints,
        options={"ftol": 1e-12, "maxiter": 500},
    )
    return float(found.fun - best)


def test_a_summary_counts_and_averages() -> None:
    found = summarise_ratings([5, 4, 4, 1])
    assert (found.count, found.mean, found.distribution) == (4, 3.5, (1, 0, 0, 2, 1))
    assert found.interval == mean_interval((1, 0, 0, 2, 1))
    back = json.loads(json.dumps(found.as_json()))
    assert back["distribution"] == [1, 0, 0, 2, 1]
    assert back["interval"] == list(found.interval or ())


def test_without_ratings_nothing_is_claimed() -> None:
    none = summarise_ratings([])
    assert (none.count, none.mean, none.interval) == (0, None, None)
    one = summarise_ratings([4])
    assert (one.count, one.mean, one.interval) == (1, 4.0, None)


@pytest.mark.parametrize("n", [2, 5, 10, 100])
def test_ratings_that_all_agree_still_leave_doubt(n: int) -> None:
    # By hand: with mean m at most (m - 1) / 4 of the ratings are 5, the others being 1, so the
    # likelihood of n fives is ((m - 1) / 4) ** n, and the edge is where that is exp(-t² / 2).
    edge = 1 + 4 * math.exp(-(student.ppf(0.975, n - 1) ** 2) / (2 * n))
    assert interval(0, 0, 0, 0, n) == pytest.approx((edge, 5))
    # All in the middle: those that are not 3 are all at one end.
    half = 2 * (1 - math.exp(-(student.ppf(0.975, n - 1) ** 2) / (2 * n)))
    assert interval(0, 0, n, 0, 0) == pytest.approx((3 - half, 3 + half))


@pytest.mark.parametrize(
    "counts", [(5, 1, 5, 11, 5), (12, 7, 7, 4, 2), (0, 0, 3, 9, 1), (2, 0, 0, 0, 9)]
)
def test_the_edges_are_where_the_evidence_gets_too_much(counts: tuple[int, ...]) -> None:
    most = student.ppf(0.975, sum(counts) - 1) ** 2 / 2
    for edge in interval(*counts):
        assert evidence_by_search(counts, edge) == pytest.approx(most, rel=1e-3)


def test_it_mirrors_narrows_and_stays_on_the_scale() -> None:
    low, high = interval(1, 0, 2, 3, 4)
    assert interval(4, 3, 2, 0, 1) == pytest.approx((6 - high, 6 - low))
    more = interval(10, 0, 20, 30, 40)
    assert low < more[0] < 3.9 < more[1] < high
    assert 1 <= min(interval(1, 0, 0, 0, 1)) < max(interval(1, 0, 0, 0, 1)) <= 5
    assert interval(1000, 0, 0, 0, 0)[0] == 1


@pytest.mark.parametrize("n", [2, 3, 4])
def test_it_holds_the_mean_of_every_few_ratings(n: int) -> None:
    for values in combinations_with_replacement(range(1, 6), n):
        found = summarise_ratings(values)
        assert found.mean is not None
        assert found.interval is not None
        assert 1 <= found.interval[0] <= found.mean <= found.interval[1] <= 5
        assert found.interval[1] - found.interval[0] > 0.1


def test_for_many_ratings_it_is_the_usual_interval() -> None:
    counts = (400, 300, 800, 900, 600)
    values = np.repeat(np.arange(1, 6), counts)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert interval(*counts) == pytest.approx(
        (values.mean() - half, values.mean() + half), abs=2e-3
    )


@pytest.mark.parametrize(
    "shares", [(0.1, 0, 0, 0, 0.9), (0.02, 0.03, 0.05, 0.2, 0.7), (0.2, 0.2, 0.2, 0.2, 0.2)]
)
@pytest.mark.parametrize("n", [5, 20])
def test_it_holds_the_true_mean_as_often_as_it_says(shares: tuple[float, ...], n: int) -> None:
    found = lru_cache(maxsize=None)(mean_interval)
    mean = float(np.dot(shares, range(1, 6)))
    samples = np.random.default_rng(0).multinomial(n, shares, size=400)
    held = [low <= mean <= high for low, high in (found(tuple(s)) for s in samples)]  # type: ignore[misc]
    assert np.mean(held) > 0.93


def test_the_usual_interval_does_not_hold_it() -> None:
    samples = np.random.default_rng(0).multinomial(10, (0.1, 0, 0, 0, 0.9), size=400)
    held = []
    for counts in samples:
        values = np.repeat(np.arange(1, 6), counts)
        half = student.ppf(0.975, 9) * values.std(ddof=1) / math.sqrt(10)
        held.append(abs(values.mean() - 4.6) <= half)
    assert np.mean(held) < 0.75


def test_criteria_are_summed_up_where_they_were_given() -> None:
    ratings = [Rating(5, {"style": 4, "truth": 5}), Rating(3), Rating(4, {"style": 2})]
    found = summarise_criteria(ratings)
    assert list(found) == ["style", "truth"]
    assert (found["style"].count, found["style"].mean) == (2, 3.0)
    assert found["truth"].count == 1


@pytest.mark.parametrize("value", [0, 6, 4.0, True, "5", None])
def test_only_whole_numbers_from_1_to_5_are_ratings(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"a rating is .*; it must be a whole number from 1 to 5"):
        Rating(value)
    with pytest.raises(ConfigError, match="style is"):
        Rating(3, {"style": value})
