"""What an agent framework asks of the system, in the system's own words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from intrinsic.backends import ChatMessage, GenerationOptions
from intrinsic.backends.options import GREEDY
from intrinsic.errors import ConfigError
from intrinsic.events import MemoryVector

AUTO = "auto"
BASE = "base"
Adapters = str | Mapping[str, float] | None
"""`auto` routes; `base` is the base model; None the active mixture; else an adapter's name, or
weights by adapter."""
Memory = MemoryVector | str
"""A text that matters to the request counts in full."""

_DECODING = frozenset(field.name for field in fields(GenerationOptions))


@dataclass(frozen=True, slots=True)
class Question:
    """A conversation to answer, and under which adapters.

    Questions of one session are routed in order, and a router may keep to what it chose. The
    memories are routed by as well as what the user said. Raises `ConfigError`.
    """

    turns: tuple[ChatMessage, ...]
    options: GenerationOptions = GREEDY
    adapters: Adapters = AUTO
    session_id: str | None = None
    memories: tuple[MemoryVector, ...] = ()

    def __post_init__(self) -> None:
        if not self.turns:
            raise ConfigError("the conversation is empty; pass at least one message")
        if not isinstance(self.adapters, str | Mapping | None):
            raise ConfigError(
                f"adapters is {self.adapters!r}; it must be 'auto', 'base', an adapter's name, "
                "weights by adapter, or None for the active mixture"
            )


def remembered(memories: Sequence[Memory]) -> tuple[MemoryVector, ...]:
    """Memories as events carry them."""
    if isinstance(memories, str):
        raise ConfigError(f"memories is the text {memories!r}; pass a list of texts")
    return tuple(
        MemoryVector(f"memory-{number}", memory, relevance_score=1.0)
        if isinstance(memory, str)
        else memory
        for number, memory in enumerate(memories, 1)
    )


def decoding(options: GenerationOptions, asked: Mapping[str, Any]) -> GenerationOptions:
    """Options with those that were asked for; None asks for nothing. Raises `ConfigError`."""
    unknown = asked.keys() - _DECODING
    if unknown:
        raise ConfigError(
            f"unknown setting {min(unknown)!r}; known: {', '.join(sorted(_DECODING))}"
        )
    given = {name: value for name, value in asked.items() if value is not None}
    if "logit_bias" in given:  # JSON has no other keys than texts
        given["logit_bias"] = {int(token): bias for token, bias in given["logit_bias"].items()}
    if isinstance(given.get("stop"), list):
        given["stop"] = tuple(given["stop"])
    return replace(options, **given)
