"""Turn-based delivery: enqueue vectors now, flush them when the turn comes."""

from __future__ import annotations

from collections.abc import Sequence

from intrinsic.bus.frames import Frame, lent_thread
from intrinsic.bus.handlers import parse_channel
from intrinsic.bus.observers import Notice
from intrinsic.bus.pending import Batch, PendingVectors
from intrinsic.bus.pipeline import Pipeline
from intrinsic.bus.report import PublishReport
from intrinsic.bus.state import Source
from intrinsic.errors import BusFullError
from intrinsic.events import EventContext, InjectionChannel, MemoryEvent, MemoryVector


class Turns:
    """The enqueued vectors of one bus, and their way into its pipeline."""

    def __init__(self, pipeline: Pipeline, max_pending: int) -> None:
        self._pipeline = pipeline
        self.pending = PendingVectors(max_pending)
        self.refused = 0

    def enqueue(
        self,
        channel: InjectionChannel | str,
        vectors: Sequence[MemoryVector],
        context: EventContext | None,
    ) -> None:
        """Keep vectors for the next flush: all of them or, raising `BusFullError`, none."""
        self._pipeline.check_open(self._pipeline.parents())
        try:
            self.pending.add(parse_channel(channel), vectors, context or EventContext())
        except BusFullError:
            self.refused += 1
            raise

    async def flush(self, channel: InjectionChannel | str | None) -> list[PublishReport]:
        """Deliver what was enqueued before this call, channel after channel."""
        self._pipeline.check_open(self._pipeline.parents())
        mark = self.pending.mark()
        wanted = self.pending.channels() if channel is None else [parse_channel(channel)]
        reports: list[PublishReport] = []
        for name in wanted:
            while (batch := self.pending.take(name, mark)) is not None:
                report = await self._deliver(batch)
                reports.append(report)
                if not report.results:
                    break  # suspended, or nobody listens: the batch was put back
                self._pipeline.observers.tell(Notice("flushed", report.event, report=report))
        return reports

    async def _deliver(self, batch: Batch) -> PublishReport:
        """Publish a batch; unless a handler ended on it, it is put back."""
        pipeline = self._pipeline
        parents = pipeline.parents()
        frame: Frame | None = None
        delivered = False
        try:
            pipeline.check_open(parents)
            event = MemoryEvent(batch.channel, batch.vectors, batch.context)
            frame = pipeline.open(event, parents)
            with lent_thread():
                report = await pipeline.run(frame, source=Source.FLUSH)
            delivered = bool(report.results)
            return report
        except BaseException:
            delivered = frame is not None and any(frame.results)
            raise
        finally:
            if delivered:
                self.pending.settle(batch)
            else:
                self.pending.put_back(batch)
