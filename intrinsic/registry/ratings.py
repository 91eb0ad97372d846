"""Ratings of one adapter version: how many, how high, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from intrinsic.errors import ConfigError

LOWEST, HIGHEST = 1, 5
SCALE = range(LOWEST, HIGHEST + 1)
_HALVINGS = 40
"""They leave 1e-11 of the scale, and never reach its ends, where nothing can be divided."""


@dataclass(frozen=True, slots=True)
class Rating:
    """One output's rating, 1 to 5, and those of single criteria. Raises `ConfigError`."""

    value: int
    criteria: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (("a rating", self.value), *self.criteria.items()):
            if isinstance(value, bool) or not isinstance(value, int) or value not in SCALE:
                raise ConfigError(f"{name} is {value!r:.80}; it must be a whole number from 1 to 5")


@dataclass(frozen=True, slots=True)
class RatingSummary:
    """`distribution` counts the ratings 1, 2, 3, 4, 5; `interval` is as `mean_interval` says.

    `mean` is None without ratings, `interval` also with one alone.
    """

    count: int
    mean: float | None
    distribution: tuple[int, ...]
    interval: tuple[float, float] | None

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        interval = None if self.interval is None else list(self.interval)
        return asdict(self) | {"distribution": list(self.distribution), "interval": interval}


def summarise_ratings(values: Iterable[int]) -> RatingSummary:
    """Sum up ratings from 1 to 5."""
    given = list(values)
    counts = tuple(given.count(value) for value in SCALE)
    mean = sum(given) / len(given) if given else None
    return RatingSummary(len(given), mean, counts, mean_interval(counts))


def summarise_criteria(ratings: Sequence[Rating]) -> dict[str, RatingSummary]:
    """Sum up each criterion, by name, over the ratings that have it."""
    names = sorted({name for one in ratings for name in one.criteria})
    return {
        name: summarise_ratings(one.criteria[name] for one in ratings if name in one.criteria)
        for name in names
    }


def mean_interval(counts: Sequence[int]) -> tuple[float, float] | None:
    """The 95 % interval of the mean of the ratings 1 to 5 that occur so often; None below two.

    Semantics: the means μ for which no distribution over 1..5 with that mean makes the ratings too
    unlikely: `max over p with mean μ of Σ nₖ log(pₖ n / nₖ) ≥ -t²/2`, t the 97.5 % quantile of
    Student's t with n - 1 degrees of freedom (empirical likelihood with its F calibration: Owen,
    Empirical Likelihood, 2001, sections 2.9 and 3.3; p may have weight where no rating is).

    Unlike `mean ± t s / √n` it stays within 1 and 5, and it has a width where all ratings agree:
    of ten ratings of a version that gets 5 in 9 cases of 10 and 1 in the other, the usual
    interval has no width in every third sample, and misses the mean.
    """
    from scipy.special import stdtrit

    count = sum(counts)
    if count < 2:
        return None
    most = float(stdtrit(count - 1, 0.975)) ** 2 / 2
    mean = sum(n * value for n, value in zip(counts, SCALE, strict=True)) / count
    return _edge(counts, mean, LOWEST, most), _edge(counts, mean, HIGHEST, most)


def _edge(counts: Sequence[int], inside: float, outside: float, most: float) -> float:
    """Where, between the mean and an end of the scale, the evidence against it gets too much."""
    if inside == outside:
        return inside
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if _evidence(counts, middle) <= most:
            inside = middle
        else:
            outside = middle
    return inside


def _evidence(counts: Sequence[int], mean: float) -> float:
    """`max over λ of Σ nₖ log(1 + λ (k - μ))`, the dual, with no factor below 0 for k in 1..5.

    The sum is concave in λ, so that the sign of its slope tells on which side the maximum is.
    """
    low, high = -1 / (HIGHEST - mean), 1 / (mean - LOWEST)
    steps = [(n, value - mean) for n, value in zip(counts, SCALE, strict=True) if n]
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if sum(n * step / (1 + middle * step) for n, step in steps) > 0:
            low = middle
        else:
            high = middle
    middle = (low + high) / 2
    return sum(n * math.log(1 + middle * step) for n, step in steps)
