"""One request under way in a batch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from transformers import DynamicCache

from intrinsic.backends.decoder import Decoder
from intrinsic.backends.forward import Forward
from intrinsic.backends.generation import Generation
from intrinsic.backends.job import Job
from intrinsic.backends.rows_cache import new_cache
from intrinsic.engine import LoraEngine


class Row:
    """A request and how far it is. Its adapters are held from here on, until it ends.

    `read` counts the ids in the cache. `alone` keeps it out of others' batches. `outcome` is what
    it ends with.
    """

    def __init__(self, model: Any, tokenizer: Any, engine: LoraEngine, job: Job) -> None:  # noqa: ANN401
        self.job = job
        self.mixture = job.mixture
        self.decoder = Decoder(model, tokenizer, job)
        self.cache: DynamicCache | None = None
        self.read = 0
        self.alone = False
        self.outcome: Generation | BaseException | None = None
        self._holding = ExitStack()
        self._held = self._holding.enter_context(engine.hold(job.mixture))

    @property
    def unread(self) -> int:
        """How many ids are not in the cache."""
        return len(self.job.prompt_ids) + len(self.decoder.new_ids) - self.read

    def prefill(self, forward: Forward, tokens: int) -> torch.Tensor | None:
        """Read up to so many more ids; after the last, the logits `(vocabulary,)` that follow."""
        ids = self.decoder.ids
        chunk = ids[self.read : self.read + tokens]
        if self.cache is None:
            self.cache = new_cache(forward.model)
        with self._held.active():
            logits = forward([chunk], [self.read], self.cache)
        self.read += len(chunk)
        return logits[0] if self.read == len(ids) else None

    def take(self, choose: Callable[[], int]) -> bool:
        """Take the next token; whether there is more to do, else `end` is due.

        An error is this row's alone.
        """
        try:
            self.decoder.push(choose())
            if self.decoder.finished:
                self.outcome = self.decoder.finish()
        except BaseException as error:
            self.outcome = error
        return self.outcome is None

    def rewind(self) -> None:
        """Forget the cache; all ids so far are read again, by this row alone."""
        self.cache, self.read, self.alone = None, 0, True

    def end(self) -> None:
        """Let the adapters go and tell the caller; a row without outcome was cancelled."""
        self.cache = None
        self._holding.close()
        if self.outcome is None:
            try:
                self.outcome = self.decoder.finish()
            except BaseException as error:
                self.outcome = error
        self.job.end(self.outcome)
