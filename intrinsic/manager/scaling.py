"""Run-time scaling: one factor per adapter, always applied to the registered base scale."""

from __future__ import annotations

from dataclasses import dataclass

from intrinsic.receipt import Skipped
from intrinsic.scaling import checked_factor


@dataclass(frozen=True, slots=True)
class ScalingReport:
    """What `set_scaling` did: the factor now in force, and how many layers it reaches.

    `layers` is 0 for an adapter that is not loaded; the factor is kept and applies when it is.
    `changed` counts the layers whose scale differs from the next lease on; where that is none,
    `skipped` says why.
    """

    adapter: str
    scaling: float
    layers: int
    changed: int = 0
    skipped: tuple[Skipped, ...] = ()


class ScalingRegister:
    """Factors by adapter key; setting 0.5 twice is 0.5, and 1.0 is the adapter as trained."""

    def __init__(self) -> None:
        self._factors: dict[str, float] = {}

    def get(self, key: str) -> float:
        """The factor of an adapter, 1.0 where none was set."""
        return self._factors.get(key, 1.0)

    def set(self, key: str, factor: float, layers: int) -> ScalingReport:
        """Set a factor of an adapter that changes `layers` layers, 0 while it is not loaded.

        Raises `MixtureError` for one that is no finite number.
        """
        former, now = self.get(key), checked_factor(key, factor)
        self._factors[key] = now
        if not layers:
            why = f"not loaded; {now} is kept and applies when it is"
        elif now == former:
            why = f"already at {now}"
        else:
            return ScalingReport(key, now, layers, layers)
        return ScalingReport(key, now, layers, 0, (Skipped(key, why),))
