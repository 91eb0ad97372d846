"""The adapter card: what routing sees of an adapter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from intrinsic.errors import ConfigError

_MAX_NAME = 255
_MAX_VERSION = 64
_SURROGATE = re.compile("[\ud800-\udfff]")


class _Hashed:
    """Keeps a hash that is no field of the data: large registries ask for it again and again."""

    __slots__ = ("_hash",)
    _hash: int


@dataclass(frozen=True, slots=True)
class AdapterCard(_Hashed):
    """Name, domain and example queries of one adapter, and the rules of choosing it.

    `examples` are queries that this adapter should answer, zero to hundreds; `negatives` such as
    look alike and are not for it. A query that has a word or phrase of `must` gets this adapter,
    one that has any of `never` does not; words are compared by their stems. Of adapters of one
    `group` at most one is chosen. `threshold` in [0, 1] stands in place of the router's own.
    Raises `ConfigError` for a field of another type or out of range, and for a name or a version
    that is empty, too long, not printable or holds the `@` that separates them.
    """

    name: str
    version: str = "1"
    domain: str = ""
    description: str = ""
    keywords: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    must: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    group: str = ""
    threshold: float | None = None

    def __post_init__(self) -> None:
        if not _is_label(self.name) or len(self.name) > _MAX_NAME:
            raise ConfigError(
                f"adapter name {self.name!r:.80} is not valid; "
                f"use a name of at most {_MAX_NAME} printable characters without '@'"
            )
        for field_name in ("version", "domain", "description", "group"):
            value = getattr(self, field_name)
            if not _is_text(value):
                raise ConfigError(
                    f"{field_name} of adapter {self.name!r} is {value!r:.80}; it must be a string"
                )
        if not _is_label(self.version) or len(self.version) > _MAX_VERSION:
            raise ConfigError(
                f"version of adapter {self.name!r} is {self.version!r:.80}; "
                f"it must be 1 to {_MAX_VERSION} printable characters without '@'"
            )
        for field_name in ("keywords", "examples", "negatives", "must", "never"):
            value = getattr(self, field_name)
            if type(value) is tuple and not value:
                continue
            if isinstance(value, str) or not isinstance(value, Sequence) or not _are_texts(value):
                raise ConfigError(
                    f"{field_name} of adapter {self.name!r} is {value!r:.80}; "
                    "it must be a list of strings"
                )
            object.__setattr__(self, field_name, tuple(value))
        self._check_threshold()

    def _check_threshold(self) -> None:
        value = self.threshold
        if value is None:
            return
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
            raise ConfigError(
                f"threshold of adapter {self.name!r} is {value!r:.80}; it must be a number in "
                "[0, 1], or left out"
            )
        object.__setattr__(self, "threshold", float(value))

    def __hash__(self) -> int:
        """Of name and version alone, which seldom are the same and are quickly hashed."""
        try:
            return self._hash
        except AttributeError:
            object.__setattr__(self, "_hash", hash((self.name, self.version)))
            return self._hash

    @property
    def key(self) -> str:
        """`name@version`, which names exactly one adapter."""
        return f"{self.name}@{self.version}"

    @property
    def sentence(self) -> str:
        """The card as one text for an encoder: `domain: description`."""
        parts = [part for part in (self.domain, self.description) if part]
        return ": ".join(parts) or self.name


CARD_FIELDS = tuple(field.name for field in fields(AdapterCard))
"""The names of a card's fields, as files spell them."""


def _is_text(value: object) -> bool:
    """Whether a value is a string that an encoder can read: a lone surrogate has no UTF-8."""
    if not isinstance(value, str):
        return False
    return value.isascii() or _SURROGATE.search(value) is None


def _are_texts(values: Sequence[Any]) -> bool:
    try:
        return _is_text("".join(values))
    except TypeError:  # one is no text
        return False


def _is_label(value: object) -> bool:
    return (
        isinstance(value, str) and bool(value.strip()) and value.isprintable() and "@" not in value
    )
