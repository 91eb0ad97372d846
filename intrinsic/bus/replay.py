"""Deliver dead letters again."""

from __future__ import annotations

from intrinsic.bus.dead_letters import DeadLetter
from intrinsic.bus.pipeline import Pipeline
from intrinsic.bus.report import HandlerResult, PublishReport
from intrinsic.errors import BusError


async def replay(pipeline: Pipeline, letter_id: str | None) -> list[PublishReport]:
    """Replay one letter, or all; each is reserved meanwhile, so that no two replays deliver it.

    Raises `BusError` for an id that is not on the list.
    """
    pipeline.check_open(pipeline.parents())
    letters = pipeline.letters.begin_replay(letter_id)
    try:
        return [await _replay_one(pipeline, letter) for letter in letters]
    finally:
        pipeline.letters.end_replay(letters)


async def _replay_one(pipeline: Pipeline, letter: DeadLetter) -> PublishReport:
    handler = pipeline.letters.handler_of(letter, pipeline.table.of(letter.event.channel))
    if handler is None:
        error = BusError(
            f"handler {letter.handler!r} is no longer registered; "
            "register one under that name, then replay again"
        )
        return PublishReport(letter.event, (HandlerResult(letter.handler, None, error, 0.0),))
    report = await pipeline.publish(letter.event, (handler,))
    for result in report.results:
        if result.error is None:
            pipeline.letters.remove(letter.id)
        else:
            pipeline.letters.failed_again(letter, result.error)
    return report
