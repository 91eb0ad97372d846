"""What was in fact delivered."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from intrinsic.bus.report import PublishReport
from intrinsic.events import InjectionChannel


class InjectionRecord(NamedTuple):
    """An event that at least one handler took. `time` is in seconds of the epoch."""

    event_id: str
    channel: InjectionChannel
    session_id: str | None
    memory_ids: tuple[str, ...]
    handlers: tuple[str, ...]
    shadow: bool
    time: float


@dataclass(frozen=True, slots=True)
class InjectionLog:
    """A snapshot: the newest records, oldest first, and counts over the life of the bus.

    `delivered` events were taken by a handler (`shadow` of them in shadow mode), `failed` events
    by none of their handlers, `suspended` events were kept back by the kill switch.
    """

    records: tuple[InjectionRecord, ...]
    delivered: int
    shadow: int
    failed: int
    suspended: int

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[InjectionRecord]:
        return iter(self.records)

    def __getitem__(self, index: int) -> InjectionRecord:
        return self.records[index]


class InjectionRecorder:
    """Keeps the last `size` records. It holds ids only, so that no vector is kept alive."""

    __slots__ = ("_records", "delivered", "failed", "shadow", "suspended")

    def __init__(self, size: int) -> None:
        self._records: deque[InjectionRecord] = deque(maxlen=size)
        self.delivered = self.shadow = self.failed = self.suspended = 0

    def record(self, report: PublishReport) -> int:
        """Take note of a finished event; returns how many handlers took it."""
        if report.suspended is not None:
            self.suspended += 1
            return 0
        names = [result.name for result in report.results if result.error is None]
        if not names:
            self.failed += bool(report.results)
            return 0
        self.delivered += 1
        self.shadow += report.shadow
        event = report.event
        self._records.append(
            InjectionRecord(
                event.id,
                event.channel,
                event.context.session_id,
                tuple([vector.memory_id for vector in event.vectors]),
                tuple(names),
                report.shadow,
                time.time(),
            )
        )
        return len(names)

    def snapshot(self) -> InjectionLog:
        """The log as it is now."""
        return InjectionLog(
            tuple(self._records), self.delivered, self.shadow, self.failed, self.suspended
        )
