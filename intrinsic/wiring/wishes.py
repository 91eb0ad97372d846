"""What an event's metadata says about its own routing: how many, how sure, and who not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from intrinsic.errors import EventError

MOST = 1000
"""Adapters that may be asked for, or excluded, by one event."""


@dataclass(frozen=True, slots=True)
class RouteWishes:
    """`top_k`, `threshold` and `exclude` of one event, as its metadata spells them.

    At most `top_k` adapters are chosen (1 to 1,000; None is the router's own number). `threshold`
    in [0, 1] stands in place of the router's own; a card may ask for more. `exclude` are names, or
    `name@version`, that are not chosen, whatever plugins and rules of cards say.
    """

    top_k: int | None = None
    threshold: float | None = None
    exclude: frozenset[str] = frozenset()

    @classmethod
    def of(cls, metadata: Mapping[str, object]) -> RouteWishes:
        """Read them. Raises `EventError` for values that are not valid."""
        return cls(
            _count(metadata.get("top_k")),
            _share(metadata.get("threshold")),
            _names(metadata.get("exclude")),
        )


def _count(value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST:
        raise EventError(
            f"top_k in an event's metadata is {value!r:.80}; it must be a whole number from 1 "
            f"to {MOST:,}, or left out"
        )
    return value


def _share(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise EventError(
            f"threshold in an event's metadata is {value!r:.80}; it must be a number in [0, 1], "
            "or left out"
        )
    return float(value)


def _names(value: object) -> frozenset[str]:
    if value is None:
        return frozenset()
    if (
        not isinstance(value, list | tuple | set | frozenset)
        or len(value) > MOST
        or not all(isinstance(name, str) for name in value)
    ):
        raise EventError(
            f"exclude in an event's metadata is {value!r:.80}; it must be a list of at most "
            f"{MOST:,} adapter names, or left out"
        )
    return frozenset(value)
