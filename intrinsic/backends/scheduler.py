"""Continuous batching: requests under different mixtures in one batch, joining between steps.

new ──► waiting ──► reading their prompts ──► batch ──► one token each, per step ──► end
                     up to 512 tokens a step             ▲                │
                                                         └────────────────┘
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from transformers import DynamicCache

from intrinsic.backends.batch import Batch
from intrinsic.backends.forward import Forward
from intrinsic.backends.job import Job
from intrinsic.backends.mixing import Mixing
from intrinsic.backends.prompts import PromptReader
from intrinsic.backends.row import Row
from intrinsic.engine import LoraEngine
from intrinsic.exiting import exit_waits


class BatchStatistics(NamedTuple):
    """What a scheduler did: `row_steps / steps` is the mean size of a batch."""

    steps: int  # passes of a batch through the model, one token each
    row_steps: int  # rows in them, together
    rows: int  # generations that run now
    waiting: int  # those that have not begun


class BatchScheduler:
    """Runs jobs in one thread, `max_rows` at a time, which lives while there is work.

    Rows under different mixtures share a batch where the model keeps rows apart in every layer
    that the adapters change, else those under the same mixture do. A step that fails is taken
    again, row by row, so that only the row that cannot go on ends with the error.
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401
        tokenizer: Any,  # noqa: ANN401
        engine: LoraEngine,
        *,
        max_rows: int,
    ) -> None:
        self.max_rows = max_rows
        self._tokenizer = tokenizer
        self._engine = engine
        self._forward = Forward(model)
        self._lock = threading.Lock()
        self._waiting: deque[Job] = deque()
        self._thread: threading.Thread | None = None
        self._mixing = Mixing(self._forward, engine)
        self._reader = PromptReader(self._forward, engine, self._mixing)
        self._batches: list[Batch] = []
        self._steps = self._row_steps = 0

    def statistics(self) -> BatchStatistics:
        """The counters as they are now."""
        with self._lock:
            waiting = len(self._waiting)
        rows = len(self._reader.rows) + sum(len(batch.rows) for batch in list(self._batches))
        return BatchStatistics(self._steps, self._row_steps, rows, waiting)

    def submit(self, job: Job) -> None:
        """Take a job in; its `end` is called once, unless it is withdrawn."""
        with self._lock:
            self._waiting.append(job)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="intrinsic-generate", daemon=True
                )
                try:
                    self._thread.start()
                except BaseException:
                    self._thread = None
                    self._waiting.remove(job)
                    raise

    def withdraw(self, job: Job) -> bool:
        """Take back a job that has not begun; False where it has."""
        with self._lock, suppress(ValueError):
            self._waiting.remove(job)
            return True
        return False

    def _work(self) -> None:
        with exit_waits():
            try:
                while self._admit():
                    self._step_all()
            except BaseException as error:
                self._end_all(error)

    def _step_all(self) -> None:
        self._end_cancelled()
        for rows, cache in self._reader.read():
            _tell(rows)
            self._place(rows, cache)
        for batch in list(self._batches):
            self._step(batch)

    def _admit(self) -> bool:
        """Let waiting jobs in; False, and the thread is to end, where there is nothing to do."""
        with self._lock:
            room = self.max_rows - len(self._reader.rows) - sum(len(b.rows) for b in self._batches)
            admitted = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
            if not admitted and room == self.max_rows:
                self._thread = None
                return False
        for job in admitted:
            try:
                row = Row(self._forward.model, self._tokenizer, self._engine, job)
            except BaseException as error:
                job.end(error)
            else:
                self._reader.rows.append(row)
        return True

    def _end_cancelled(self) -> None:
        for batch in list(self._batches):
            self._end(batch, [row for row in batch.rows if row.job.cancelled.is_set()])
        for row in [row for row in self._reader.rows if row.job.cancelled.is_set()]:
            self._reader.rows.remove(row)
            row.end()

    def _place(self, rows: Sequence[Row], cache: DynamicCache) -> None:
        batch = next((b for b in self._batches if self._mixing.may_share([*b.rows, *rows])), None)
        if batch is None:
            batch = Batch(self._forward, self._engine)
            self._batches.append(batch)
        try:
            batch.join(rows, cache)
        except BaseException:
            self._take_apart(batch, [*(row for row in batch.rows if row not in rows), *rows])

    def _step(self, batch: Batch) -> None:
        self._steps += 1
        self._row_steps += len(batch.rows)
        try:
            logits = batch.step()
            best = logits.argmax(-1).tolist()
        except BaseException as error:
            if len(batch.rows) > 1:
                self._take_apart(batch, batch.rows)
            else:
                batch.rows[0].outcome = error
                self._end(batch, batch.rows)
            return
        ended: list[Row] = []
        for at, row in enumerate(batch.rows):
            plain = not row.decoder.processors
            choose = partial(int, best[at]) if plain else partial(row.decoder.choose, logits[at])
            if not row.take(choose):
                ended.append(row)
        _tell(batch.rows)
        self._end(batch, ended)

    def _end(self, batch: Batch, rows: Sequence[Row]) -> None:
        """Take rows out of a batch, and then tell their callers."""
        try:
            batch.drop(rows)
        except BaseException:
            self._take_apart(batch, batch.rows)
        if not batch.rows and batch in self._batches:
            self._batches.remove(batch)
        for row in rows:
            row.end()

    def _take_apart(self, batch: Batch, rows: Sequence[Row]) -> None:
        """Give up a batch that may be half changed; its rows go on alone, from their ids."""
        for row in rows:
            row.rewind()
        self._reader.rows += rows
        batch.drop(batch.rows)
        self._batches.remove(batch)

    def _end_all(self, error: BaseException) -> None:
        """What must not happen did; nobody waits for ever because of it."""
        with self._lock:  # the next job finds nothing of this, and a thread of its own
            waiting, batches, rows = list(self._waiting), self._batches, self._reader.rows
            self._waiting.clear()
            self._batches, self._reader.rows, self._thread = [], [], None
        for batch in batches:
            rows += batch.rows
            batch.close()
        for row in rows:
            row.outcome = error
            row.end()
        for job in waiting:
            job.end(error)


def _tell(rows: Sequence[Row]) -> None:
    """Pass on what the rows have emitted, once for each event loop that listens."""
    for flush in {row.job.flush for row in rows}:
        flush()
