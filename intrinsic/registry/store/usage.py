"""How often versions are used: counted in memory at once, written in batches by a task."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterable
from functools import partial
from time import time
from types import TracebackType
from typing import Self

import anyio

from intrinsic.errors import ConfigError, RegistryError
from intrinsic.registry.store.database import Database
from intrinsic.registry.store.usage_sums import Sum, Usage, add_sums, read_usage

_log = logging.getLogger(__name__)

_STOP_S = 30.0
"""How long leaving waits for the last write; the database gives up on its own before that."""


class _Attempt:
    """A write to come; who waits for it hears how it went."""

    def __init__(self) -> None:
        self.ended = anyio.Event()
        self.error: Exception | None = None


class UsageLog:
    """Counts what versions are used for; an async context manager that owns the task that writes.

    The `note_*` methods take microseconds, from any thread. Every `flush_s` seconds, and when the
    block is left, also by an error or a cancellation, the sums are added to the database. A write
    that fails is logged once and tried again with what came since. While the database fails, the
    sums of `most_waiting` versions are kept; the use of further ones is lost, and how much that was
    is logged. Ids that the database does not know are passed over.
    """

    def __init__(
        self, database: Database, *, flush_s: float = 1.0, most_waiting: int = 10_000
    ) -> None:
        if not flush_s > 0:
            raise ConfigError(f"flush_s is {flush_s}; it must be more than 0")
        if most_waiting < 1:
            raise ConfigError(f"most_waiting is {most_waiting}; it must be 1 or more")
        self._db = database
        self._flush_s = flush_s
        self._most = most_waiting
        self._waiting: dict[str, Sum] = {}
        self._lock = threading.Lock()
        self._lost = 0
        self._failing = False
        self._next: _Attempt | None = None

    def note_routed(self, version_id: str, confidence: float) -> None:
        """A request was routed to the version, with this probability."""
        with self._lock:
            if (found := self._sum(version_id)) is not None:
                found.routed += 1
                if math.isfinite(confidence):
                    found.confidence_sum += float(confidence)
                    found.confidence_count += 1
                found.use(time())

    def note_generated(self, version_id: str, tokens: int) -> None:
        """A generation with the version gave so many tokens."""
        with self._lock:
            if (found := self._sum(version_id)) is not None:
                found.generated += 1
                found.tokens += int(tokens)
                found.use(time())

    def note_loaded(self, version_id: str, seconds: float) -> None:
        """The version was loaded, which took so long."""
        with self._lock:
            if (found := self._sum(version_id)) is not None:
                found.loads += 1
                found.load_seconds += float(seconds)

    async def usage_of(self, ids: Iterable[str]) -> dict[str, Usage]:
        """Return the use of these versions up to now; of one that was never used, zeros.

        Raises `RegistryError` where the database fails.
        """
        wanted = list(ids)
        await self.flush()
        return await self._db.read(partial(read_usage, ids=wanted))

    async def flush(self) -> None:
        """Wait until what was noted is written; raise `RegistryError` where it cannot be now."""
        attempt = self._next
        if attempt is None:
            raise RegistryError("usage is written inside 'async with UsageLog(...)' alone")
        self._wake.set()
        await attempt.ended.wait()
        if attempt.error is not None:
            raise attempt.error

    async def __aenter__(self) -> Self:
        self._wake = anyio.Event()
        self._next = _Attempt()
        self._stopped = False
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._run)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        self._stopped = True
        self._wake.set()
        try:
            # The task group would wrap any other exception than a cancellation in a group.
            if error is not None and _holds_cancellation(error):
                return await self._tasks.__aexit__(kind, error, trace)
            await self._tasks.__aexit__(None, None, None)
            return None
        finally:
            await self._write_rest()

    async def _run(self) -> None:
        """Only this task writes: nobody's cancellation leaves it unknown what was committed."""
        try:
            while not self._stopped:
                with anyio.move_on_after(self._flush_s):
                    await self._wake.wait()
                with anyio.CancelScope(shield=True):
                    await self._attempt(_Attempt())
        finally:
            with anyio.move_on_after(_STOP_S, shield=True):
                await self._attempt(None)

    async def _write_rest(self) -> None:
        """What was noted after the task had to end, by a block that was slower to be cancelled."""
        if self._waiting and not self._failing:
            self._next = _Attempt()
            with anyio.move_on_after(_STOP_S, shield=True):
                await self._attempt(None)
        if self._waiting:
            _log.error("the use of %d versions could not be written", len(self._waiting))

    async def _attempt(self, following: _Attempt | None) -> None:
        attempt, self._next = self._next, following
        self._wake = anyio.Event()
        assert attempt is not None
        try:
            await self._write()
        except Exception as error:
            if not self._failing:
                _log.warning("usage is kept in memory until it can be written: %s", error)
            self._failing = True
            attempt.error = error
        except BaseException:
            self._failing = True
            attempt.error = RegistryError("the last use was not written before the deadline")
            raise
        else:
            self._failing = False
        finally:
            attempt.ended.set()

    async def _write(self) -> None:
        with self._lock:
            batch, self._waiting = self._waiting, {}
            lost, self._lost = self._lost, 0
        if lost:
            _log.error("%d uses of more than %d versions were lost", lost, self._most)
        if not batch:
            return
        try:
            await self._db.write(partial(add_sums, sums=batch))
        except BaseException:
            self._take_back(batch)
            raise

    def _take_back(self, batch: dict[str, Sum]) -> None:
        with self._lock:
            for version_id, added in self._waiting.items():
                if version_id in batch:
                    batch[version_id].add(added)
                else:
                    batch[version_id] = added
            self._waiting = batch

    def _sum(self, version_id: str) -> Sum | None:
        """Where a version's use is added up; None where there is no room."""
        found = self._waiting.get(version_id)
        if found is None:
            if self._failing and len(self._waiting) >= self._most:
                self._lost += 1
                return None
            found = self._waiting[version_id] = Sum()
        return found


def _holds_cancellation(error: BaseException) -> bool:
    cancelled = anyio.get_cancelled_exc_class()
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(cancelled) is not None
    return isinstance(error, cancelled)
