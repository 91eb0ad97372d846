"""A conversation as an event: what its user said is what there is to route by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

from intrinsic.events import EventContext, InjectionChannel, MemoryEvent, MemoryVector

KEPT_PER_TURN = 0.5
"""The share of its relevance that a user's turn keeps with each one that follows."""
MOST_TURNS = 4
"""Of more turns of the user, the latest."""


def conversation_event(
    turns: Sequence[Mapping[str, object]],
    *,
    memories: Sequence[MemoryVector] = (),
    request_id: str | None = None,
    session_id: str | None = None,
    metadata: Mapping[str, object] | None = None,
) -> MemoryEvent:
    """Build the `DYNAMIC_LORA` event of a conversation.

    `turns` have a `role` and a `content`, as chat templates take them. The last turn of role
    `user` counts in full, earlier ones `KEPT_PER_TURN` as much each, and nobody else's: what was
    answered may have been wrong. Where no user spoke, the last turn counts. `memories` come with
    their own relevance.
    """
    said = [str(turn["content"]) for turn in turns if turn["role"] == "user"]
    if not said:
        said = [str(turn["content"]) for turn in turns[-1:]]
    spoken = [
        MemoryVector(
            f"turn-{len(said) - age}",
            text,
            relevance_score=KEPT_PER_TURN**age,
            channel=InjectionChannel.DYNAMIC_LORA,
        )
        for age, text in enumerate(islice(reversed(said), MOST_TURNS))
    ]
    return MemoryEvent(
        channel=InjectionChannel.DYNAMIC_LORA,
        vectors=(*spoken, *memories),
        context=EventContext(request_id, session_id),
        metadata=metadata or {},
    )
