"""The receipt of one routed request: what was chosen, what was applied, what was skipped."""

from __future__ import annotations

from dataclasses import dataclass

from intrinsic.mixture import BASE, Mixture
from intrinsic.selection import Selection


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that was left out so that generation could go on, and why."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one request got. Times are in milliseconds.

    `selections` is the router's choice as far as it can be used; `mixture` the weights that
    generation will run under, by adapter (`name@version`) and before run-time scaling. In shadow
    mode the choice is recorded and the mixture is the base.
    """

    request_id: str
    event_id: str = ""
    selections: tuple[Selection, ...] = ()
    mixture: Mixture = BASE
    skipped: tuple[Skipped, ...] = ()
    shadow: bool = False
    route_ms: float = 0.0
    load_ms: float = 0.0
    switch_ms: float = 0.0
