"""Adapter names, in every shape in which PEFT's versions and what resembles them expose them.

"a"                       a string
["a", "b"]                a list, a tuple, a set
{"a": config}             a mapping, an nn.ModuleDict
active_adapters()         a method or a property that gives one of the above
object.adapters           or .adapter_names, each in any of these shapes
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from intrinsic.scaling.attributes import is_keyed, keys_of, own, takes_nothing

_KNOWN = ("peft_config", "adapters", "adapter_names")
_INNER = ("adapters", "adapter_names")
_ACTIVE = ("active_adapters", "active_adapter")
_DEPTH = 4


class Model(Protocol):
    """What is asked of a model: its modules, as `torch.nn.Module` gives them."""

    def modules(self) -> Iterator[object]:
        """The model itself, then everything in it."""

    def named_modules(self) -> Iterator[tuple[str, object]]:
        """The same, each with its path."""


def adapter_names(model: Model) -> tuple[str, ...]:
    """The adapters that a model says it has, in its order; empty where it names none."""
    for attribute in _KNOWN:
        if names := names_in(getattr(model, attribute, None)):
            return names
    for module in model.modules():
        if names := names_in(own(module, "peft_config")):
            return names
    return active_names(model)


def active_names(model: Model) -> tuple[str, ...]:
    """The adapters that a model says are in force; empty where nothing in it tells."""
    for module in model.modules():
        if names := names_by(module, _ACTIVE):
            return names
    return ()


def names_by(module: object, attributes: Iterable[str] = (*_INNER, *_ACTIVE)) -> tuple[str, ...]:
    """The names that the first of a module's own attributes holds which holds any."""
    for attribute in attributes:
        if names := names_in(own(module, attribute)):
            return names
    return ()


def names_in(value: object, depth: int = _DEPTH) -> tuple[str, ...]:
    """The names that a value holds in any of the shapes above; empty for anything else."""
    if value is None or depth == 0:
        return ()
    if isinstance(value, str):
        return (value,) if value else ()
    if is_keyed(value):
        return keys_of(value)
    if isinstance(value, Iterable):
        return tuple(item for item in value if isinstance(item, str))
    for attribute in _INNER:
        if names := names_in(getattr(value, attribute, None), depth - 1):
            return names
    return names_in(_answer(value), depth - 1)


def _answer(value: object) -> object:
    """What a method returns. That of transformers raises where it has no adapter."""
    if not (takes_nothing(value) and callable(value)):
        return None
    try:
        return value()
    except ValueError:
        return None
