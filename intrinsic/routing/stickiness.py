"""Which adapter answered last in a session, and what that is worth: conversations do not flap."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from intrinsic.routing.options import RouterOptions
from intrinsic.routing.text import STOP_WORDS, words

KEPT_PER_REQUEST = 0.8
"""What is left of the bonus for each request that the adapter did not win by itself."""

UNCONNECTED = 0.4
"""What is left of it where nothing in a text points back to what was said before."""

_CONNECTIVES = frozenset({"and", "but", "or", "so", "also", "then"})
_QUESTIONS_BACK = frozenset({("what", "about"), ("how", "about"), ("what", "if")})
_PRONOUNS = frozenset(
    [
        "it",
        "its",
        "this",
        "that",
        "these",
        "those",
        "they",
        "them",
        "their",
        "he",
        "him",
        "his",
        "she",
        "her",
    ]
)
_FEW_WORDS = 8
_READ_CHARS = 200


class Last(NamedTuple):
    """The adapter (`name@version`) that answered last in a session, and its bonus in log-odds."""

    adapter: str
    bonus: float


def follows_up(text: str) -> bool:
    """Whether an English text points back: "and ...", "what about ...", a short "make it faster".

    One that says nothing by itself ("why?") does too.
    """
    said = words(text[:_READ_CHARS])
    if not said:
        return False
    if said[0] in _CONNECTIVES or tuple(said[:2]) in _QUESTIONS_BACK:
        return True
    short = len(said) <= _FEW_WORDS
    return short and (not _PRONOUNS.isdisjoint(said) or STOP_WORDS.issuperset(said))


class _Answer(NamedTuple):
    adapter: str
    carried: int  # requests since it won one by itself
    at_s: float


class _Session(NamedTuple):
    now: _Answer | None
    before: _Answer | None  # what was so before the latest request


_NEW = _Session(None, None)


class Sessions:
    """Remembers the latest sessions; safe between tasks and threads.

    `bonus = stickiness · 0.8 ** n · (1 - t / session_s)`, n being the requests since the adapter
    won one without it and t the seconds since it answered; 0.4 of that unless the text follows up.
    """

    def __init__(
        self, options: RouterOptions, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._options = options
        self._clock = clock
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def last(self, session_id: str, text: str) -> Last | None:
        """Return who answered last, where that is still worth something for `text`."""
        with self._lock:
            answer = self._sessions.get(session_id, _NEW).now
        if answer is None:
            return None
        left = 1.0 - (self._clock() - answer.at_s) / self._options.session_s
        bonus = self._options.stickiness * KEPT_PER_REQUEST**answer.carried * left
        bonus *= 1.0 if follows_up(text) else UNCONNECTED
        return Last(answer.adapter, bonus) if bonus > 0.0 else None

    def adapter(self, session_id: str) -> str | None:
        """Return the adapter that answered last, whatever that is worth by now."""
        with self._lock:
            answer = self._sessions.get(session_id, _NEW).now
        return None if answer is None else answer.adapter

    def answered(self, session_id: str, adapter: str | None, *, by_itself: bool = True) -> None:
        """Note that a request was answered by `adapter`, or by the base model."""
        with self._lock:
            self._note(session_id, self._sessions.get(session_id, _NEW).now, adapter, by_itself)

    def corrected(self, session_id: str, adapter: str | None) -> None:
        """Note that the latest request was in the end answered by `adapter`, or by the base."""
        with self._lock:
            self._note(session_id, self._sessions.get(session_id, _NEW).before, adapter, True)

    def forget(self, session_id: str, adapter: str) -> None:
        """Forget `adapter`, which is no more, where it answered last."""
        with self._lock:
            answer = self._sessions.get(session_id, _NEW).now
            if answer is not None and answer.adapter == adapter:
                del self._sessions[session_id]

    def _note(
        self, session_id: str, before: _Answer | None, adapter: str | None, by_itself: bool
    ) -> None:
        now = before
        if adapter is None:
            now = before and before._replace(carried=before.carried + 1)
        elif by_itself or before is None or before.adapter != adapter:
            now = _Answer(adapter, 0, self._clock())
        else:
            now = _Answer(adapter, before.carried + 1, self._clock())
        if now is None:
            self._sessions.pop(session_id, None)
            return
        self._sessions[session_id] = _Session(now, before)
        self._sessions.move_to_end(session_id)
        while len(self._sessions) > self._options.cached_sessions:
            self._sessions.popitem(last=False)
