"""A handler plugin: serves `CONTEXT_STUFFING` by putting memories in front of a prompt.

Publish an event on that channel; the report's value is the text to put before the question.
"""

from __future__ import annotations

from typing import Any

from intrinsic import InjectionChannel, MemoryBus, MemoryEvent, hookimpl

MAX_CHARACTERS = 1000


def stuff(event: MemoryEvent) -> str:
    """Join the most relevant memories, as many as fit."""
    lines: list[str] = []
    room = MAX_CHARACTERS
    for line in event.text.splitlines():
        room -= len(line) + 1
        if room < 0:
            break
        lines.append(line)
    return "\n".join(lines)


@hookimpl
def register_handlers(bus: MemoryBus, interface: Any) -> None:  # noqa: ANN401
    """Called once when a bus is wired to a model."""
    bus.register_handler(
        InjectionChannel.CONTEXT_STUFFING, stuff, name="context_stuffing", in_thread=False
    )
