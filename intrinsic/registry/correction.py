"""Many comparisons at once: Holm's correction, and what each of them says in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from intrinsic.registry.difference import LEVEL, Difference, named

_SAYS = {
    ("preferences", True): "{} beats {}",
    ("preferences", False): "{} does not beat {} significantly",
    ("ratings", True): "{} is rated higher than {}",
    ("ratings", False): "{} is not rated significantly higher than {}",
}


def holm(p_values: Sequence[float]) -> list[float]:
    """The corrected p-values, in the order given.

    The i-th smallest of m is multiplied by m - i + 1, is not below the one before it, and is at
    most 1 (Holm, Scandinavian Journal of Statistics 6, 1979). So the chance that any difference is
    called significant where there is none stays below 5 %, however the comparisons hang together.
    """
    corrected = [1.0] * len(p_values)
    highest = 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(p_values[at] * (len(p_values) - rank), 1.0))
        corrected[at] = highest
    return corrected


def corrected(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    """The differences with corrected p-values, verdicts and sentences, in the order given."""
    made = [one.p for one in differences if one.p is not None]
    left = iter(holm(made))
    return tuple(
        replace(one, sentence=f"{_pair(one)}: {one.detail}")
        if one.p is None
        else _judged(one, next(left), len(made))
        for one in differences
    )


def _judged(one: Difference, p: float, comparisons: int) -> Difference:
    significant = p < LEVEL
    winner, loser = (one.a, one.b) if (one.effect or 0) >= 0 else (one.b, one.a)
    says = _SAYS[one.kind, significant].format(named(winner), named(loser))
    over = f", corrected for {comparisons} comparisons" if comparisons > 1 else ""
    sentence = f"{says}: {one.detail}, {p_in_words(p)}{over}"
    return replace(one, p_corrected=p, significant=significant, sentence=sentence)


def p_in_words(p: float) -> str:
    """`p = 0.015`, with so many digits that it is seen on which side of 0.05 it lies."""
    if p < 0.001:
        return "p < 0.001"
    digits = 3
    while digits < 9 and (float(f"{p:.{digits}f}") < LEVEL) != (p < LEVEL):
        digits += 1
    return f"p = {p:.{digits}f}"


def _pair(one: Difference) -> str:
    return f"{named(one.a)} and {named(one.b)}"
