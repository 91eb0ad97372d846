"""The keys, found in the signatures of what takes them."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from intrinsic.backends.options import OF_A_CALL
from intrinsic.config.sections import SECTIONS, Section
from intrinsic.routing.calibration import Calibration

PREFIX = "INTRINSIC_"
REQUIRED = inspect.Parameter.empty
_SECRETS = frozenset({"admin_key", "api_key", "password", "secret", "token"})
_READ_FROM_FILES = {Calibration: Path}


@dataclass(frozen=True, slots=True)
class Key:
    """One setting: its `path` is as `routing.top_k`, its `default` is `REQUIRED` without one.

    `type` is an annotation. What is `made_here` has a default that differs between machines.
    """

    path: str
    type: Any
    default: Any
    section: Section
    made_here: bool = False

    @property
    def name(self) -> str:
        """The last part of the path, which is the name of the parameter."""
        return self.path.rpartition(".")[2]

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return PREFIX + self.path.upper().replace(".", "__")

    @property
    def is_secret(self) -> bool:
        """Whether its value is never shown."""
        return self.name in _SECRETS

    @property
    def is_table(self) -> bool:
        """Whether its value is a table of names that are not keys."""
        return self.accepts(Mapping)

    @property
    def is_path(self) -> bool:
        """Whether its value is a path, and never the name of anything else."""
        return self.accepts(Path) and self.name != "model"

    def accepts(self, kind: type) -> bool:
        """Whether a value may be of that kind, or a list of such."""
        return any(
            one is kind or typing.get_origin(one) is kind or kind in typing.get_args(one)
            for one in alternatives(self.type)
        )


def alternatives(annotation: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """The parts of a union, or the annotation itself."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _keys(section: Section) -> Iterator[Key]:
    takes = section.takes
    hints = typing.get_type_hints(takes if dataclasses.is_dataclass(takes) else _init_of(takes))
    factories, of_a_call = _factories(takes), _of_a_call(takes)
    for name, parameter in inspect.signature(takes).parameters.items():
        if name in of_a_call or _MADE.intersection(alternatives(hints[name])):
            continue
        kinds = tuple(_READ_FROM_FILES.get(one, one) for one in alternatives(hints[name]))
        made = factories.get(name)
        yield Key(
            path=f"{section.name}.{name}" if section.name else name,
            type=functools.reduce(lambda a, b: a | b, kinds),
            default=parameter.default if made is None else made(),
            section=section,
            made_here=made is not None and not isinstance(made(), Mapping),
        )


def _init_of(takes: Callable[..., object]) -> Callable[..., object]:
    return vars(takes)["__init__"]  # type: ignore[no-any-return]


def _factories(takes: Any) -> dict[str, Callable[[], object]]:  # noqa: ANN401
    if not dataclasses.is_dataclass(takes):
        return {}
    return {
        one.name: one.default_factory
        for one in dataclasses.fields(takes)
        if one.default_factory is not dataclasses.MISSING
    }


def _of_a_call(takes: Any) -> frozenset[str]:  # noqa: ANN401
    if not dataclasses.is_dataclass(takes):
        return frozenset()
    return frozenset(one.name for one in dataclasses.fields(takes) if OF_A_CALL in one.metadata)


_MADE: frozenset[object] = frozenset(section.takes for section in SECTIONS)

KEYS: Mapping[str, Key] = MappingProxyType(
    {key.path: key for section in SECTIONS for key in _keys(section)}
)
"""All of them, by path, in the order in which they are shown."""

TABLES: Mapping[str, Section] = MappingProxyType(
    {section.name: section for section in SECTIONS if section.name}
)
"""The sections that are tables of a file, by name."""


def keys_of(takes: Callable[..., object]) -> dict[str, Key]:
    """The keys that something takes, by the name of the parameter."""
    return {key.name: key for key in KEYS.values() if key.section.takes is takes}
