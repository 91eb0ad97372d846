"""What the answers of chat and of completions have in common as events of a stream."""

from __future__ import annotations

import json
import time
import uuid
from abc import ABC, abstractmethod
from typing import Any

from intrinsic.backends import Generation


class EventForm(ABC):
    """Writes events; a piece is put together from parts that are ready, as there are many.

    `field` opens a choice, up to its text: `"text": `, say. With `usage` every event has that
    field, as OpenAI's clients expect of streams that count.
    """

    def __init__(self, prefix: str, kind: str, model: str, *, field: str, usage: bool) -> None:
        self.head: dict[str, Any] = {
            "id": f"{prefix}-{uuid.uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": None,
        }
        self._none = {"usage": None} if usage else {}
        self.opened = f'data: {json.dumps(self.head)[:-1]}, "choices": [{{{field}'
        closed = ', "usage": null}\n\n' if usage else "}\n\n"
        self.closed = f"}}]{closed}"

    @abstractmethod
    def choice(self, number: int, reason: str | None = None) -> dict[str, Any]:
        """A choice that says nothing more than why it ended."""

    def last(self, choice: int, generation: Generation, times: dict[str, Any]) -> str:
        """Why it ended, and how long it took."""
        return self.applied(self.choice(choice, generation.finish_reason), {"times": times})

    def usage(self, usage: dict[str, int], times: dict[str, Any]) -> str:
        """The counts."""
        return self._event([], {"usage": usage, "intrinsic": {"times": times}})

    def applied(self, choice: dict[str, Any], applied: dict[str, Any]) -> str:
        """A choice with the field `intrinsic`."""
        return self._event([choice], {**self._none, "intrinsic": applied})

    def _event(self, choices: list[dict[str, Any]], more: dict[str, Any]) -> str:
        return f"data: {json.dumps({**self.head, 'choices': choices, **more})}\n\n"
