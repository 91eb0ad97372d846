"""Events and the memories that they carry; immutable, and free of any tensor library."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from intrinsic.errors import EventError

Array = Any
"""A vector or matrix of any array library; the bus passes it on untouched."""

_NO_METADATA: Mapping[str, object] = MappingProxyType({})


class InjectionChannel(StrEnum):
    """The ways in which a memory can reach a model; this project serves `DYNAMIC_LORA`."""

    LOGIT_BIAS = "logit_bias"
    KNN_LM = "knn_lm"
    ACTIVATION_STEERING = "activation_steering"
    KV_CACHE_INJECTION = "kv_cache_injection"
    DYNAMIC_LORA = "dynamic_lora"
    CONTEXT_STUFFING = "context_stuffing"


@dataclass(frozen=True, slots=True)
class MemoryVector:
    """A text that matters to a request, with what the channels may need of it.

    `relevance_score` and `injection_strength` weigh it against other memories (any finite
    number, 1.0 is neutral strength); `decay_factor` is the share kept per turn, in [0, 1].
    Raises `EventError` for values outside these.
    """

    memory_id: str
    source_text: str
    steering_vector: Array | None = field(default=None, compare=False)
    target_layers: tuple[int, ...] = ()
    key_vectors: Array | None = field(default=None, compare=False)
    value_vectors: Array | None = field(default=None, compare=False)
    logit_bias: Mapping[int, float] | None = field(default=None, compare=False)
    relevance_score: float = 0.0
    injection_strength: float = 1.0
    decay_factor: float = 1.0
    channel: InjectionChannel | None = None
    lora_adapter_path: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.source_text, str):
            raise EventError(
                f"source_text of memory {self.memory_id!r} is {type(self.source_text).__name__}, "
                "not a string; pass the text of the memory"
            )
        for name in ("relevance_score", "injection_strength", "decay_factor"):
            if not math.isfinite(getattr(self, name)):
                raise EventError(
                    f"{name} of memory {self.memory_id!r} is {getattr(self, name)}; "
                    "it must be a finite number"
                )
        if not 0.0 <= self.decay_factor <= 1.0:
            raise EventError(
                f"decay_factor of memory {self.memory_id!r} is {self.decay_factor}; "
                "it must lie in [0, 1]"
            )
        object.__setattr__(self, "target_layers", tuple(self.target_layers))


@dataclass(frozen=True, slots=True)
class EventContext:
    """Whom an event belongs to: a request, and the session whose events are kept in order."""

    request_id: str | None = None
    session_id: str | None = None


_NO_CONTEXT = EventContext()


def _new_id() -> str:
    return uuid.uuid4().hex


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class MemoryEvent:
    """Memories on their way to a channel; `id` and `time` are CloudEvents' fields of that name.

    `time` is in UTC. `parent_id` is the event during whose handling this one was published.
    """

    channel: InjectionChannel
    vectors: tuple[MemoryVector, ...] = ()
    context: EventContext = _NO_CONTEXT
    id: str = field(default_factory=_new_id)
    time: datetime = field(default_factory=_now)
    parent_id: str | None = None
    metadata: Mapping[str, object] = field(default_factory=lambda: _NO_METADATA, compare=False)

    def __post_init__(self) -> None:
        try:
            channel = InjectionChannel(self.channel)
        except ValueError:
            known = ", ".join(InjectionChannel)
            raise EventError(f"unknown channel {self.channel!r}; known: {known}") from None
        object.__setattr__(self, "channel", channel)
        if type(self.vectors) is not tuple:
            object.__setattr__(self, "vectors", tuple(self.vectors))
        if self.metadata is not _NO_METADATA:
            object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))

    @classmethod
    def from_text(
        cls,
        text: str,
        *,
        channel: InjectionChannel = InjectionChannel.DYNAMIC_LORA,
        request_id: str | None = None,
        session_id: str | None = None,
        metadata: Mapping[str, object] = _NO_METADATA,
    ) -> MemoryEvent:
        """Build an event that carries one memory, `text`, at full relevance."""
        vector = MemoryVector("query", text, relevance_score=1.0, channel=channel)
        return cls(
            channel=channel,
            vectors=(vector,),
            context=EventContext(request_id, session_id),
            metadata=metadata,
        )

    def with_parent(self, parent_id: str) -> MemoryEvent:
        """Return this event as a child of `parent_id`; one that has a parent keeps it."""
        return self if self.parent_id is not None else replace(self, parent_id=parent_id)

    @property
    def text(self) -> str:
        """The memories' texts, most relevant first, a line each."""
        return "\n".join(vector.source_text for vector in by_relevance(self.vectors))


def by_relevance(vectors: Sequence[MemoryVector]) -> list[MemoryVector]:
    """Sort memories by relevance times strength, highest first; equal ones keep their order."""
    return sorted(vectors, key=lambda v: -(v.relevance_score * v.injection_strength))
