"""Deliveries that failed, kept for a replay."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, replace

from intrinsic.bus.handlers import Handler
from intrinsic.errors import BusError
from intrinsic.events import MemoryEvent


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that one handler failed on; `time` of the last attempt in seconds of the epoch."""

    id: str
    event: MemoryEvent
    handler: str
    error: BaseException
    attempts: int
    time: float


class DeadLetters:
    """A bounded list of dead letters; when full, the oldest makes room and is counted."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._letters: dict[str, DeadLetter] = {}
        self._handlers: dict[str, Handler] = {}
        self._in_replay: set[str] = set()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._letters)

    def snapshot(self) -> tuple[DeadLetter, ...]:
        """The letters, oldest first."""
        return tuple(self._letters.values())

    def add(self, event: MemoryEvent, handler: Handler, error: BaseException) -> DeadLetter | None:
        """Keep a failed delivery; returns the letter that had to make room, if any."""
        letter = DeadLetter(uuid.uuid4().hex, event, handler.name, error, 1, time.time())
        self._letters[letter.id] = letter
        self._handlers[letter.id] = handler
        if len(self._letters) <= self._size:
            return None
        oldest = next(iter(self._letters.values()))
        self.remove(oldest.id)
        self.dropped += 1
        return oldest

    def remove(self, letter_id: str) -> None:
        """Forget a letter."""
        self._letters.pop(letter_id, None)
        self._handlers.pop(letter_id, None)

    def begin_replay(self, letter_id: str | None) -> list[DeadLetter]:
        """Reserve one letter, or all, so that no two replays deliver the same one.

        Raises `BusError` for an id that is not on the list.
        """
        if letter_id is not None and letter_id not in self._letters:
            raise BusError(
                f"no dead letter {letter_id!r}; it was replayed or dropped, see bus.dead_letters"
            )
        wanted = list(self._letters) if letter_id is None else [letter_id]
        free = [self._letters[key] for key in wanted if key not in self._in_replay]
        self._in_replay.update(letter.id for letter in free)
        return free

    def end_replay(self, letters: list[DeadLetter]) -> None:
        """Set reserved letters free again."""
        self._in_replay.difference_update(letter.id for letter in letters)

    def handler_of(self, letter: DeadLetter, candidates: tuple[Handler, ...]) -> Handler | None:
        """The handler to replay to: the one that failed, or one registered since under its name."""
        handler = self._handlers.get(letter.id)
        if handler is not None and handler.active:
            return handler
        return next((found for found in candidates if found.name == letter.handler), None)

    def failed_again(self, letter: DeadLetter, error: BaseException) -> None:
        """Count another attempt, unless the letter was dropped meanwhile."""
        if letter.id in self._letters:
            self._letters[letter.id] = replace(
                letter, error=error, attempts=letter.attempts + 1, time=time.time()
            )
