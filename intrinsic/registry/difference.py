"""Whether two versions differ, by their ratings or by votes between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import count
from statistics import mean
from typing import Any, Literal

from intrinsic.registry.preferences import Version, Vote, summarise_votes
from intrinsic.registry.rank_test import least_p, mann_whitney

LEVEL = 0.05
"""A corrected p-value below it is significant."""

FEWEST_VOTES = next(n for n in count(1) if 2 * 0.5**n < LEVEL)
"""So many decisive votes can be significant, where all agree."""

FEWEST_RATINGS = next(n for n in count(1) if least_p(n, n) < LEVEL)
"""So many ratings of each can be significant, where no two overlap."""

BASE = "the base model"


@dataclass(frozen=True, slots=True)
class Difference:
    """One comparison of two versions; None is the base model.

    `n` is how many decisive votes, or ratings of both, it rests on. `effect` is above 0 where `a`
    is ahead: of ratings the rank-biserial correlation (-1 to 1), of preferences the win rate less
    one half (-0.5 to 0.5). `p` is None where no outcome could be significant at that n: such a
    comparison is not made, and not counted either (Tarone 1990). `p_corrected` is Holm's, over all
    that were made.
    """

    kind: Literal["ratings", "preferences"]
    a: Version
    b: Version
    n: int
    effect: float | None
    p: float | None
    detail: str
    p_corrected: float | None = None
    significant: bool = False
    sentence: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def by_votes(a: Version, b: Version, votes: Sequence[Vote]) -> Difference:
    """Compare two versions by votes, all of them between these two.

    An exact two-sided binomial test that either wins a decisive vote with probability one half.
    """
    from scipy.stats import binomtest

    found = summarise_votes(a, votes)
    n = found.decisive
    effect = None if found.win_rate is None else found.win_rate - 0.5
    ties = f" ({_number(found.ties, 'tie')} apart)" if found.ties else ""
    if n >= FEWEST_VOTES:
        p = float(binomtest(found.wins, n).pvalue)
        share = max(found.wins, found.losses) / n
        detail = f"{share * 100:.0f} % of {n} decisive votes{ties}"
        return Difference("preferences", a, b, n, effect, p, detail)
    needed = f"at least {FEWEST_VOTES} are needed for p < {LEVEL} even if all agree"
    if not votes:
        detail = "there are no votes between them"
    elif n:
        are = "is" if n == 1 else "are"
        detail = f"{_number(n, 'decisive vote')} {are} too few to tell{ties}; {needed}"
    else:
        detail = f"no vote is decisive{ties}; {needed}"
    return Difference("preferences", a, b, n, effect, None, detail)


def by_ratings(a: Version, b: Version, of_a: Sequence[int], of_b: Sequence[int]) -> Difference:
    """Compare two versions by their ratings; see `mann_whitney`."""
    n = len(of_a) + len(of_b)
    sizes = f"{len(of_a)} and {_number(len(of_b), 'rating')}"
    if not of_a or not of_b:
        missing = " and ".join(named(v) for v, of in ((a, of_a), (b, of_b)) if not of)
        return Difference("ratings", a, b, n, None, None, f"there are no ratings of {missing}")
    found = mann_whitney(of_a, of_b)
    if least_p(len(of_a), len(of_b)) >= LEVEL:
        detail = (
            f"{sizes} are too few to tell; with {FEWEST_RATINGS} of each, p < {LEVEL} is possible "
            "where they do not overlap"
        )
        return Difference("ratings", a, b, n, found.effect, None, detail)
    if len({*of_a, *of_b}) == 1:
        detail = f"all {n} ratings are {of_a[0]}"
    else:
        first, other = (of_a, of_b) if found.effect >= 0 else (of_b, of_a)
        detail = (
            f"mean {mean(first):.2f} against {mean(other):.2f} of {len(first)} and {len(other)} "
            f"ratings, rank-biserial correlation {abs(found.effect):.2f}"
        )
    return Difference("ratings", a, b, n, found.effect, found.p, detail)


def named(version: Version) -> str:
    """A version in a sentence."""
    return BASE if version is None else version


def _number(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
