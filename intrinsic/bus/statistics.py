"""The counters of a bus."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from intrinsic.bus.pipeline import Pipeline
    from intrinsic.bus.turns import Turns


class BusStatistics(NamedTuple):
    """A snapshot. Every accepted event is in exactly one place:

    `published == completed + suspended + cancelled + dropped + in_flight + waiting + queued`
    """

    published: int  # events accepted by publish, publish_nowait, flush and replay
    completed: int  # events whose handlers all returned, failed or timed out
    suspended: int  # events that the kill switch kept from the handlers
    cancelled: int  # events whose publisher was cancelled, or gave up with the bus, before that
    dropped: int  # queued events that were given up when the bus was left
    in_flight: int  # events being handled, nested ones included
    waiting: int  # publishers that wait for their session or a slot
    queued: int  # events of publish_nowait that have not started
    delivered: int  # events that at least one handler took
    failed: int  # handler calls that raised
    timed_out: int  # handler calls that overran their timeout
    shadowed: int  # completed events handled in shadow mode
    refused: int  # events and vectors that a full bus refused
    pending: int  # vectors that wait for a flush
    dead_letters: int  # failed deliveries kept for a replay
    dead_letters_dropped: int  # failed deliveries that made room for newer ones
    sessions: int  # sessions with an event being handled or waiting
    handlers: int  # registered handlers
    cycles_broken: int  # events run out of turn because waiting would never have ended
    observer_errors: int  # observers that raised


def count(pipeline: Pipeline, turns: Turns, refused_events: int) -> BusStatistics:
    """Take a snapshot."""
    return BusStatistics(
        published=pipeline.published,
        completed=pipeline.completed,
        suspended=pipeline.kept_back,
        cancelled=pipeline.cancelled,
        dropped=pipeline.dropped,
        in_flight=pipeline.in_flight,
        waiting=pipeline.waiting,
        queued=pipeline.queued,
        delivered=pipeline.log.delivered,
        failed=pipeline.failed,
        timed_out=pipeline.timed_out,
        shadowed=pipeline.shadowed,
        refused=refused_events + turns.refused,
        pending=turns.pending.count,
        dead_letters=len(pipeline.letters),
        dead_letters_dropped=pipeline.letters.dropped,
        sessions=len(pipeline.admission.sessions),
        handlers=len(pipeline.table),
        cycles_broken=pipeline.admission.cycles_broken,
        observer_errors=pipeline.observers.errors,
    )
