"""Votes between two versions for outputs to the same prompt: wins, losses and ties."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from intrinsic.errors import ConfigError

Version = str | None
"""A version of an adapter; None is the base model alone."""

Outcome = Literal["a", "b", "tie"]


@dataclass(frozen=True, slots=True)
class Vote:
    """Which of two versions had the better output. Raises `ConfigError`."""

    a: Version
    b: Version
    outcome: Outcome

    def __post_init__(self) -> None:
        if self.outcome not in ("a", "b", "tie"):
            raise ConfigError(f"a vote's outcome is {self.outcome!r:.80}; it must be a, b or tie")
        if self.a == self.b:
            raise ConfigError(f"a vote is between {self.a!r:.80} and itself; name two versions")

    def of(self, version: Version) -> Literal["win", "loss", "tie"] | None:
        """What the vote is to a version; None where it is not between that and another."""
        if version not in (self.a, self.b):
            return None
        if self.outcome == "tie":
            return "tie"
        winner = self.a if self.outcome == "a" else self.b
        return "win" if winner == version else "loss"


@dataclass(frozen=True, slots=True)
class PreferenceSummary:
    """One version's votes; `win_rate` is of the decisive ones, ties apart, None without any.

    `interval` is Wilson's 95 % score interval of the win rate (JASA 22, 1927), which keeps within
    0 and 1 and has a width where all votes agree.
    """

    wins: int
    losses: int
    ties: int
    win_rate: float | None
    interval: tuple[float, float] | None

    @property
    def decisive(self) -> int:
        """Wins and losses."""
        return self.wins + self.losses

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        interval = None if self.interval is None else list(self.interval)
        return asdict(self) | {"decisive": self.decisive, "interval": interval}


def summarise_votes(version: Version, votes: Iterable[Vote]) -> PreferenceSummary:
    """Sum up what votes are to a version; those between others do not count."""
    found = [vote.of(version) for vote in votes]
    wins, losses = found.count("win"), found.count("loss")
    rate = wins / (wins + losses) if wins + losses else None
    return PreferenceSummary(wins, losses, found.count("tie"), rate, _wilson(wins, wins + losses))


def between(a: Version, b: Version, votes: Iterable[Vote]) -> list[Vote]:
    """The votes between two versions, whichever of them was shown first."""
    return [vote for vote in votes if {vote.a, vote.b} == {a, b}]


def _wilson(wins: int, decisive: int) -> tuple[float, float] | None:
    from scipy.stats import binomtest

    if not decisive:
        return None
    found = binomtest(wins, decisive).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)
