"""Attributes of a module that are its own, never those that a wrapper forwards to its inside.

PEFT's wrappers answer for what they wrap. A model's own float `scaling`, seen through such a
wrapper, would look like a LoRA scale.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Protocol, TypeGuard

_STORES = ("_parameters", "_buffers", "_modules")


class Keyed(Protocol):
    """A mapping by name; an `nn.ModuleDict` is one by its methods, not by its class."""

    def keys(self) -> Iterable[object]:
        """The names."""

    def __getitem__(self, key: str, /) -> object: ...

    def __setitem__(self, key: str, value: object, /) -> None: ...


def own(module: object, name: str) -> object:
    """The module's attribute `name`, or None where neither it nor its class has one."""
    state: dict[str, object] = getattr(module, "__dict__", {})
    if name in state:
        return state[name]
    for store in _STORES:
        held = state.get(store)
        if isinstance(held, dict) and name in held:
            return held[name]
    return getattr(module, name) if hasattr(type(module), name) else None


def is_keyed(value: object) -> TypeGuard[Keyed]:
    """Whether a value maps names to something."""
    return callable(getattr(value, "keys", None)) and hasattr(value, "__getitem__")


def keys_of(value: object) -> tuple[str, ...]:
    """The names that a mapping holds; empty for anything else."""
    keys = value.keys() if is_keyed(value) else ()
    return tuple(key for key in keys if isinstance(key, str))


def takes_nothing(value: object) -> bool:
    """Whether a value can be called without arguments."""
    if not callable(value):
        return False
    try:
        inspect.signature(value).bind()
    except (TypeError, ValueError):
        return False
    return True
