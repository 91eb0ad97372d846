"""What a plugin's factory is offered, and takes only where it names it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping


def parameters_of(make: Callable[..., object]) -> Mapping[str, inspect.Parameter]:
    """What a factory takes, by name; nothing of one that hides it."""
    try:
        return inspect.signature(make).parameters
    except (TypeError, ValueError):
        return {}


def taken(make: Callable[..., object], offered: Mapping[str, object]) -> dict[str, object]:
    """Those of `offered` that a factory has as keywords alone."""
    parameters = parameters_of(make)
    return {
        key: value
        for key, value in offered.items()
        if key in parameters and parameters[key].kind is inspect.Parameter.KEYWORD_ONLY
    }
