"""Token ids to pieces of text: whole characters only, and nothing of a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class TextStream:
    """Decodes ids as they come.

    A piece is given out once its characters are complete and it can no longer turn into one of
    the stop strings; `stopped` says that one was met, and the text ends before it. `decoded` and
    `released` count the characters that were read of ids and given out.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = ()) -> None:  # noqa: ANN401
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._hold = max((len(s) for s in self._stop), default=1) - 1
        self._ids: list[int] = []
        self._prefix = 0
        self._read = 0
        self._pending = ""
        self.stopped = False
        self.decoded = 0
        self.released = 0

    @property
    def tokens(self) -> int:
        """How many ids came."""
        return len(self._ids)

    def push(self, ids: Sequence[int]) -> str:
        """Take ids and return the text that is final by now."""
        self._ids.extend(ids)
        before = self._decode(self._prefix, self._read)
        now = self._decode(self._prefix, len(self._ids))
        if len(now) <= len(before) or now.endswith(_UNFINISHED):
            return ""
        self._prefix, self._read = self._read, len(self._ids)
        return self._release(now[len(before) :], final=False)

    def finish(self) -> str:
        """Return what is left."""
        before = self._decode(self._prefix, self._read)
        return self._release(self._decode(self._prefix, len(self._ids))[len(before) :], final=True)

    def _decode(self, start: int, end: int) -> str:
        return str(self._tokenizer.decode(self._ids[start:end], skip_special_tokens=True))

    def _release(self, piece: str, *, final: bool) -> str:
        if self.stopped:
            return ""
        self._pending += piece
        self.decoded += len(piece)
        found = [at for s in self._stop if (at := self._pending.find(s)) >= 0]
        if found:
            self.stopped = True
            cut = min(found)
        else:
            cut = len(self._pending) - (0 if final else min(self._hold, len(self._pending)))
        out, self._pending = self._pending[:cut], self._pending[cut:]
        self.released += cut
        return out
