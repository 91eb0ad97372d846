"""Rows that take their steps together: one forward pass, one token for each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack

import torch
from transformers import DynamicCache

from intrinsic.backends.forward import Forward
from intrinsic.backends.row import Row
from intrinsic.backends.rows_cache import join, keep
from intrinsic.engine import Held, LoraEngine


class Batch:
    """Rows with one cache, each under its own mixture.

    The mixtures are held from step to step while the rows are the same.
    """

    def __init__(self, forward: Forward, engine: LoraEngine) -> None:
        self.rows: list[Row] = []
        self._forward = forward
        self._engine = engine
        self._cache: DynamicCache | None = None
        self._holding = ExitStack()
        self._held: Held | None = None

    def join(self, rows: Sequence[Row], cache: DynamicCache) -> None:
        """Add rows with their cache, which has all their ids but the last."""
        if self._cache is None:
            self._cache = cache
        else:
            join([self._cache, cache])
        self._change([*self.rows, *rows])

    def drop(self, rows: Collection[Row]) -> None:
        """Take rows out."""
        if not rows:
            return
        kept = [at for at, row in enumerate(self.rows) if row not in rows]
        self._change([self.rows[at] for at in kept])
        if not kept:
            self._cache = None
        elif self._cache is not None:
            indices = torch.tensor(kept, device=self._forward.model.device)
            keep(self._cache, indices, max(row.read for row in self.rows))

    def step(self) -> torch.Tensor:
        """Read every row's last token; the logits that follow, `(rows, vocabulary)`."""
        assert self._cache is not None
        assert self._held is not None
        last = [[row.decoder.new_ids[-1]] for row in self.rows]
        with self._held.active():
            logits = self._forward(last, [row.read for row in self.rows], self._cache)
        for row in self.rows:
            row.read += 1
        return logits

    def close(self) -> None:
        """Let go of the engine; the rows are not told."""
        self._holding.close()

    def _change(self, rows: list[Row]) -> None:
        self._holding.close()
        self.rows = rows
        if rows:
            mixtures = [row.mixture for row in rows]
            self._held = self._holding.enter_context(self._engine.hold(mixtures))
