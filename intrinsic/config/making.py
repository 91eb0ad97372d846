"""Sections' options made of values; what they refuse, key by key."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from intrinsic.config.keys import REQUIRED, Key, keys_of
from intrinsic.config.sections import SECTIONS, UNCHECKED
from intrinsic.errors import ConfigError
from intrinsic.routing.calibration import Calibration
from intrinsic.routing.card_lines import one_line
from intrinsic.routing.chat_endpoint import ChatEndpoint
from intrinsic.routing.llm_options import LLMOptions

_REFUSED = (ConfigError, ValueError, TypeError, OverflowError, OSError)
"""What constructors raise for values of the right kind that are not valid."""

_MOST_CHARS = 500


@dataclass(frozen=True, slots=True)
class Refusal:
    """A key whose value was refused, and why."""

    key: Key
    message: str


def make_all(values: Mapping[str, Any]) -> tuple[dict[Any, Any], list[Refusal]]:
    """What every section makes of its values, by what takes them, and what was refused.

    What is refused is left out, so that all faults are found at once.
    """
    made: dict[Any, Any] = {}
    refusals: list[Refusal] = []
    for takes in _in_order():
        if takes in UNCHECKED:
            continue
        given = arguments(takes, values)
        if takes is ChatEndpoint:
            missing = _missing(given)
            refusals += missing
            if missing or not given.keys() - {"api_key"}:
                continue
        if takes is LLMOptions and ChatEndpoint in made:
            given["endpoint"] = made[ChatEndpoint]
        try:
            made[takes] = takes(**given)
        except _REFUSED:
            refusals += _refusals(takes, given)
            if not any(one.default is REQUIRED for one in keys_of(takes).values()):
                refused = {one.key.name for one in refusals if one.key.section.takes is takes}
                made[takes] = takes(**{n: v for n, v in given.items() if n not in refused})
    return made, refusals


def arguments(takes: Callable[..., object], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of what something takes, by parameter; what is in a file is not read."""
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, key in keys_of(takes).items()
        if key.path in values and not _is_in_a_file(takes, name)
        for value in (values[key.path],)
    }


def _in_order() -> Iterator[Callable[..., object]]:
    """The endpoint comes before the options that hold it."""
    yield ChatEndpoint
    yield from (section.takes for section in SECTIONS if section.takes is not ChatEndpoint)


def _is_in_a_file(takes: Callable[..., object], name: str) -> bool:
    return Calibration.__name__ in str(inspect.signature(takes).parameters[name].annotation)


def _missing(given: Mapping[str, Any]) -> list[Refusal]:
    """An endpoint needs an address and a model; a key alone, as of the environment, is none."""
    if not given.keys() - {"api_key"}:
        return []
    needed = (key for key in keys_of(ChatEndpoint).values() if key.default is REQUIRED)
    return [
        Refusal(key, f"{key.path} is missing; an endpoint has {key.section.name}.base_url and "
                f"{key.section.name}.model")
        for key in needed
        if key.name not in given
    ]  # fmt: skip


def _refusals(takes: Callable[..., object], given: Mapping[str, Any]) -> Iterator[Refusal]:
    """The arguments that are at fault: without one, the call gets further."""
    left = dict(given)
    keys = keys_of(takes)
    while (why := _why(takes, left)) is not None:
        culprit = _culprit(takes, left, why)
        if culprit is None:
            return
        yield Refusal(keys[culprit], _with_path(keys[culprit], why))
        del left[culprit]


def _culprit(takes: Callable[..., object], left: Mapping[str, Any], why: str) -> str | None:
    names = [name for name in left if name in keys_of(takes)]
    without = {name: _why(takes, {n: v for n, v in left.items() if n != name}) for name in names}
    further = [name for name in names if without[name] != why]
    named = [name for name in further if why.startswith(f"{name} ")]
    free = [name for name in further if without[name] is None]
    return next(iter([*named, *free, *further, *names]), None)


def _why(takes: Callable[..., object], given: Mapping[str, Any]) -> str | None:
    required = [one for one in keys_of(takes).values() if one.default is REQUIRED]
    if any(one.name not in given for one in required):
        return None
    try:
        takes(**given)
    except _REFUSED as error:
        return str(error)
    return None


def _with_path(key: Key, why: str) -> str:
    """The message in one line, with the key's whole path, once."""
    why = one_line(why, _MOST_CHARS)
    if why.startswith(f"{key.name} "):
        return key.path + why.removeprefix(key.name)
    return f"{key.path}: {why}"
