"""What is asked of a router: one text, or several whose meanings count by weight."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from intrinsic.events import InjectionChannel, MemoryVector, by_relevance
from intrinsic.routing.options import RouterOptions
from intrinsic.routing.text import readable

MOST_PARTS = 32
"""Of more memories than this the heaviest are asked about."""


@dataclass(frozen=True, slots=True)
class Question:
    """A readable `text`, which is what words are taken from, and its parts.

    `parts` are texts with positive weights that sum to 1; an ordinary query is its own only part.
    The meaning of a question is the unit vector of its parts' weighted sum. One without a part
    asks nothing.
    """

    text: str
    parts: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, text: str) -> Question:
        """Return the question of a text, with what cannot be read left out."""
        clean = readable(text)
        return cls(clean, ((clean, 1.0),) if clean else ())

    @classmethod
    def about(
        cls, query: str, memories: Sequence[MemoryVector], options: RouterOptions
    ) -> Question:
        """Return the question of a query that came with memories.

        A query that is the memories' own text (`MemoryEvent.text`) says nothing besides them: its
        parts are the memories, `w_i = relevance_i · strength_i · weight of its channel`, however
        long each is. Any other query is a part of its own, and the memories have
        `memory_share` together. Memories of weight 0 or less are left out; where all have, all
        count the same, but for those whose channel weighs 0.
        """
        kinds = options.memory_weights
        if not kinds and all(memory.source_text == query for memory in memories):
            return cls.of(query)
        spoken = _weighed(memories, kinds)
        text = readable(query)
        if not text or query == "\n".join(memory.source_text for memory in by_relevance(memories)):
            return cls._of_parts(spoken)
        share = options.memory_share if spoken else 0.0
        parts = [(said, share * weight) for said, weight in spoken.items()]
        return cls._of_parts(_sum([(text, 1.0 - share), *parts]))

    @classmethod
    def _of_parts(cls, weights: Mapping[str, float]) -> Question:
        heaviest = sorted(weights.items(), key=lambda part: -part[1])[:MOST_PARTS]
        heard = [(text, weight) for text, weight in heaviest if weight > 0.0]
        total = sum(weight for _, weight in heard)
        parts = tuple((text, weight / total) for text, weight in heard)
        return cls("\n".join(text for text, _ in parts), parts)


def _weighed(memories: Sequence[MemoryVector], kinds: Mapping[str, float]) -> dict[str, float]:
    """Readable texts of memories with their shares, which sum to 1; the same text is one."""
    said = []
    for memory in memories:
        kind = kinds.get(memory.channel or InjectionChannel.DYNAMIC_LORA, 1.0)
        text = readable(memory.source_text)
        if kind > 0.0 and text:
            said.append((text, kind, memory.relevance_score * memory.injection_strength))
    most = max((weight for _, _, weight in said), default=0.0)
    if most <= 0.0:
        return _normal([(text, kind) for text, kind, _ in said])
    most = min(most, sys.float_info.max)
    return _normal([(text, kind * max(min(w / most, 1.0), 0.0)) for text, kind, w in said])


def _normal(parts: Sequence[tuple[str, float]]) -> dict[str, float]:
    greatest = max((weight for _, weight in parts), default=0.0)
    scaled = [(text, weight / greatest) for text, weight in parts if weight > 0.0]
    total = sum(weight for _, weight in scaled)
    return _sum((text, weight / total) for text, weight in scaled)


def _sum(parts: Iterable[tuple[str, float]]) -> dict[str, float]:
    weights: dict[str, float] = {}
    for text, weight in parts:
        weights[text] = weights.get(text, 0.0) + weight
    return weights
