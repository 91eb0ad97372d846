"""Checks of a plan's settings, told as the command line spells them."""

from __future__ import annotations

import math

from intrinsic.errors import ConfigError


def check_whole(plan: object, name: str, least: int, most: int | None = None) -> None:
    """Raise `ConfigError` where a setting is no whole number within its bounds."""
    value = getattr(plan, name)
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        upper = "" if most is None else f" and at most {most}"
        raise ConfigError(
            f"{option(name)} is {value!r}; it must be a whole number of at least {least}{upper}"
        )


def check_number(
    plan: object, name: str, low: float, high: float = math.inf, *, open_below: bool = False
) -> None:
    """Raise `ConfigError` where a setting is no number from `low`, or above it, to below `high`."""
    value = getattr(plan, name)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value < high or (open_below and value == low):
        lower = "more than" if open_below else "at least"
        upper = "finite" if high == math.inf else f"less than {high:g}"
        raise ConfigError(f"{option(name)} is {value!r}; it must be {lower} {low:g} and {upper}")


def option(name: str) -> str:
    """A setting as the command line spells it."""
    return "--lr" if name == "learning_rate" else f"--{name.replace('_', '-')}"
