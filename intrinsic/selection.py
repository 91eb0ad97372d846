"""A router's answer (one adapter, how sure it is, and why) and what a router may know."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from intrinsic.errors import MixtureError
from intrinsic.events import MemoryVector


@dataclass(frozen=True, slots=True)
class Selection:
    """One adapter that fits a query.

    `confidence` is a calibrated probability in [0, 1]; `weight` is its share of the mixture,
    any finite number. Raises `MixtureError` for values outside these.
    """

    adapter: str
    confidence: float = 1.0
    weight: float = 1.0
    reason: str = ""

    def __post_init__(self) -> None:
        if not 0.0 <= self.confidence <= 1.0:
            raise MixtureError(
                f"confidence of adapter {self.adapter!r} is {self.confidence}; "
                "it must lie in [0, 1]"
            )
        if not math.isfinite(self.weight):
            raise MixtureError(
                f"weight of adapter {self.adapter!r} is {self.weight}; it must be a finite number"
            )


@dataclass(frozen=True, slots=True)
class RouteContext:
    """What a router may know besides the query: whose request it is, and the memories it came with.

    `memories` are in the order of the event; `exclude` names adapters that must not be chosen.
    `threshold`, where it is given, stands in place of the router's own; a card may ask for more.
    A `trial` (shadow mode) leaves no trace that later requests of the session see. `notes`, where
    there is a list, become the receipt's `skipped`: pairs of what was left out, and why.
    """

    request_id: str | None = None
    session_id: str | None = None
    memories: tuple[MemoryVector, ...] = ()
    exclude: frozenset[str] = frozenset()
    threshold: float | None = None
    trial: bool = False
    notes: list[tuple[str, str]] | None = field(default=None, compare=False, repr=False)

    def note(self, what: str, why: str) -> None:
        """Have the receipt say what was left out, and why; nothing where there is no receipt."""
        if self.notes is not None:
            self.notes.append((what, why))


NO_CONTEXT = RouteContext()
