"""A factor that someone asks for, checked."""

from __future__ import annotations

import math
from numbers import Real

from intrinsic.errors import MixtureError


def checked_factor(adapter: str, factor: object) -> float:
    """The factor as a float; 1.0 is the adapter as trained.

    Raises `MixtureError` for what is no real number (a bool is none) and for one that a float
    cannot hold.
    """
    if isinstance(factor, bool) or not isinstance(factor, Real):
        raise MixtureError(
            f"scaling of {adapter!r} is {factor!r}; it must be a number; "
            "give a finite one, 1.0 for the adapter as trained"
        )
    try:
        value = float(factor)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise MixtureError(
            f"scaling of {adapter!r} is {value}; it must be finite; "
            "give 0 for off, 1.0 for the adapter as trained"
        )
    return value
