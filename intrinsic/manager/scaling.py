"""Run-time scaling: one factor per adapter, always applied to the registered base scale."""

from __future__ import annotations

import math
from dataclasses import dataclass

from intrinsic.errors import MixtureError


@dataclass(frozen=True, slots=True)
class ScalingReport:
    """What `set_scaling` did: the factor now in force, and how many layers it reaches.

    `layers` is 0 for an adapter that is not loaded; the factor is kept and applies when it is.
    """

    adapter: str
    scaling: float
    layers: int


class ScalingRegister:
    """Factors by adapter key; setting 0.5 twice is 0.5, and 1.0 is the adapter as trained."""

    def __init__(self) -> None:
        self._factors: dict[str, float] = {}

    def get(self, key: str) -> float:
        """The factor of an adapter, 1.0 where none was set."""
        return self._factors.get(key, 1.0)

    def set(self, key: str, factor: float) -> None:
        """Set a factor. Raises `MixtureError` for one that is no finite number."""
        if isinstance(factor, bool) or not isinstance(factor, int | float):
            raise MixtureError(f"scaling of {key!r} is {factor!r}; it must be a number")
        if not math.isfinite(factor):
            raise MixtureError(f"scaling of {key!r} is {factor}; it must be finite")
        self._factors[key] = float(factor)
