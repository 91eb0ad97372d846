"""Versions of an adapter side by side, and which differences between them are significant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from intrinsic.errors import ConfigError
from intrinsic.registry.correction import corrected
from intrinsic.registry.difference import Difference, by_ratings, by_votes
from intrinsic.registry.preferences import (
    PreferenceSummary,
    Version,
    Vote,
    between,
    summarise_votes,
)
from intrinsic.registry.ratings import (
    Rating,
    RatingSummary,
    summarise_criteria,
    summarise_ratings,
)

Ratings = Mapping[str, Sequence[Rating]] | Mapping[Version, Sequence[Rating]]
"""The ratings of each version, and under None those of the base model."""


@dataclass(frozen=True, slots=True)
class VersionSummary:
    """The feedback on one version; None is the base model.

    `preferences` has all of its votes, `against_base` those against the base model, None without
    any. Criteria are summed up, and not compared.
    """

    version: Version
    ratings: RatingSummary
    criteria: Mapping[str, RatingSummary]
    preferences: PreferenceSummary
    against_base: PreferenceSummary | None

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "version": self.version,
            "ratings": self.ratings.as_json(),
            "criteria": {name: one.as_json() for name, one in self.criteria.items()},
            "preferences": self.preferences.as_json(),
            "against_base": None if self.against_base is None else self.against_base.as_json(),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """The versions in the order asked for, the base model last where there is feedback on it."""

    versions: tuple[VersionSummary, ...]
    differences: tuple[Difference, ...]

    @property
    def comparisons(self) -> int:
        """How many tests were made, which Holm's correction is for."""
        return sum(one.p is not None for one in self.differences)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What each difference says, also where there is too little to say."""
        return tuple(one.sentence for one in self.differences)

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "versions": [one.as_json() for one in self.versions],
            "differences": [one.as_json() for one in self.differences],
            "comparisons": self.comparisons,
            "sentences": list(self.sentences),
        }


def summarise(version: Version, ratings: Sequence[Rating], votes: Sequence[Vote]) -> VersionSummary:
    """Sum up the feedback on one version; votes between others do not count."""
    against_base = between(version, None, votes) if version is not None else []
    return VersionSummary(
        version,
        summarise_ratings(one.value for one in ratings),
        summarise_criteria(ratings),
        summarise_votes(version, votes),
        summarise_votes(version, against_base) if against_base else None,
    )


def compare(versions: Sequence[str], ratings: Ratings, votes: Sequence[Vote]) -> Comparison:
    """Compare every two of the versions, and each with the base model where there is feedback.

    Ratings of other versions, and votes between others, are left out. Each rating and each vote
    counts as independent of the rest. Raises `ConfigError` without versions or with one twice.
    """
    if not versions or len(set(versions)) < len(versions):
        raise ConfigError(
            f"versions to compare are {list(versions)!r:.200}; name one or more, each once"
        )
    given: dict[Version, Sequence[Rating]] = dict(ratings.items())
    has_base = bool(given.get(None)) or any(between(v, None, votes) for v in versions)
    shown: list[Version] = [*versions, None] if has_base else [*versions]
    return Comparison(
        tuple(summarise(version, given.get(version, ()), votes) for version in shown),
        corrected(list(_differences(versions, given, votes))),
    )


def _differences(
    versions: Sequence[str], ratings: Mapping[Version, Sequence[Rating]], votes: Sequence[Vote]
) -> Iterator[Difference]:
    values = {version: [one.value for one in given] for version, given in ratings.items()}
    for a, b in combinations(versions, 2):
        yield by_votes(a, b, between(a, b, votes))
        yield by_ratings(a, b, values.get(a, []), values.get(b, []))
    for version in versions:
        if against := between(version, None, votes):
            yield by_votes(version, None, against)
        if values.get(version) and values.get(None):
            yield by_ratings(version, None, values[version], values[None])
