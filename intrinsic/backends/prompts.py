"""Reading prompts between the steps of others: short ones together, long ones in parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from transformers import DynamicCache

from intrinsic.backends.forward import Forward
from intrinsic.backends.mixing import Mixing
from intrinsic.backends.row import Row
from intrinsic.backends.rows_cache import keep, new_cache
from intrinsic.engine import LoraEngine

PROMPT_TOKENS = 512
"""So many prompt tokens are read between two steps, so that a long prompt holds nobody up."""
_PADDING = 1.25
"""Prompts are read together while they take at most so many times their own tokens."""

Ready = tuple[Sequence[Row], DynamicCache]
"""Rows that have read their prompts and chosen a token, and the cache that they share."""


class PromptReader:
    """Rows whose ids are not all in a cache yet, in the order in which they came."""

    def __init__(self, forward: Forward, engine: LoraEngine, mixing: Mixing) -> None:
        self.rows: list[Row] = []
        self._forward = forward
        self._engine = engine
        self._mixing = mixing

    def read(self) -> Iterator[Ready]:
        """Read on; gives out the rows that are ready, and ends those that are through."""
        room = PROMPT_TOKENS
        while room > 0 and self.rows:
            rows = self._next(room)
            tokens = min(room, sum(row.unread for row in rows))
            room -= tokens
            yield from self._alone(rows[0], tokens) if len(rows) == 1 else self._together(rows)

    def _next(self, room: int) -> list[Row]:
        """The row whose turn it is, with others that are as short and as new."""
        first, *others = self.rows
        if first.read or first.alone or first.unread > room:
            return [first]
        rows, longest, total = [first], first.unread, first.unread
        for row in others:
            wide, more = max(longest, row.unread), total + row.unread
            taken = wide * (len(rows) + 1)
            if row.read or row.alone or taken > min(room, _PADDING * more):
                continue
            rows.append(row)
            longest, total = wide, more
        if self._mixing.may_share(rows):
            return rows
        return [row for row in rows if row.mixture == first.mixture]

    def _alone(self, row: Row, tokens: int) -> Iterator[Ready]:
        try:
            logits = row.prefill(self._forward, tokens)
        except BaseException as error:
            row.outcome = error
            logits = None
        if logits is not None and row.take(partial(row.decoder.choose, logits)):
            cache, row.cache = row.cache, None
            assert cache is not None
            self.rows.remove(row)
            yield [row], cache
        elif row.outcome is not None:
            self.rows.remove(row)
            row.end()
        else:  # the next part after those that came behind it
            self.rows.remove(row)
            self.rows.append(row)

    def _together(self, rows: Sequence[Row]) -> Iterator[Ready]:
        cache = new_cache(self._forward.model)
        try:
            with self._engine.hold([row.mixture for row in rows]) as held, held.active():
                logits = self._forward([row.decoder.ids for row in rows], [0] * len(rows), cache)
        except BaseException:  # as where memory runs out: each by itself, then
            for row in rows:
                row.rewind()
            return
        going: list[int] = []
        for at, row in enumerate(rows):
            row.read = row.unread
            self.rows.remove(row)
            if row.take(partial(row.decoder.choose, logits[at])):
                going.append(at)
        yield from self._still(rows, going, cache)
        for row in rows:
            if row.outcome is not None:
                row.end()

    def _still(
        self, rows: Sequence[Row], going: Sequence[int], cache: DynamicCache
    ) -> Iterator[Ready]:
        """The rows that go on, with their part of the cache."""
        staying = [rows[at] for at in going]
        try:
            if staying and len(staying) < len(rows):
                indices = torch.tensor(going, device=self._forward.model.device)
                keep(cache, indices, max(row.read for row in staying))
        except BaseException:
            for row in staying:
                row.rewind()
            self.rows += staying
            return
        if staying:
            yield staying, cache
