"""Events as clients publish them, and what became of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from intrinsic.bus import PublishReport
from intrinsic.bus.dead_letters import DeadLetter
from intrinsic.bus.report import HandlerResult
from intrinsic.errors import IntrinsicError
from intrinsic.events import InjectionChannel
from intrinsic.receipt import Receipt
from intrinsic.server.decisions import ReceiptOut
from intrinsic.server.fields import Label, Line, ServerPath, Share, Text
from intrinsic.server.scrub import Scrubber

Weight = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Plainly = (
    None
    | bool
    | Annotated[int, Field(ge=-(2**53), le=2**53)]
    | Annotated[float, Field(allow_inf_nan=False)]
    | Annotated[str, Field(max_length=10_000)]
)
"""A value of metadata, or one in a list of it."""


class MemoryIn(BaseModel, extra="forbid"):
    """A text that matters to a request; see `MemoryVector`.

    `lora_adapter_path`, a folder of the server, names an adapter for it: with an admin key.
    """

    text: Text
    memory_id: Label | None = None
    relevance: Weight = 1.0
    strength: Weight = 1.0
    decay: Share = 1.0
    channel: InjectionChannel | None = None
    lora_adapter_path: ServerPath | None = None


class EventIn(BaseModel, extra="forbid"):
    """Memories for a channel.

    `metadata` may have `top_k`, `threshold` and `exclude`, and `shadow` to apply nothing.
    """

    channel: InjectionChannel = InjectionChannel.DYNAMIC_LORA
    vectors: Annotated[list[MemoryIn], Field(min_length=1, max_length=256)]
    session: Label | None = None
    request_id: Label | None = None
    metadata: Annotated[
        dict[Label, Plainly | Annotated[list[Plainly], Field(max_length=1000)]],
        Field(max_length=32),
    ] = {}


class HandlerOut(BaseModel):
    """What one handler made of an event."""

    handler: str
    ok: bool
    error: str | None
    timed_out: bool
    duration_ms: float

    @classmethod
    def of(cls, result: HandlerResult, scrub: Scrubber) -> HandlerOut:
        """A handler's result, without what it returned."""
        return cls(
            handler=result.name,
            ok=result.ok,
            error=None if result.error is None else said(result.error, scrub),
            timed_out=result.timed_out,
            duration_ms=result.duration_ms,
        )


class ReportOut(BaseModel):
    """What became of an event; `receipt` is what was chosen and loaded, where that was asked.

    `suspended` is why the kill switch kept it from the handlers.
    """

    event_id: str
    ok: bool
    suspended: str | None
    shadow: bool
    results: list[HandlerOut]
    receipt: ReceiptOut | None

    @classmethod
    def of(cls, report: PublishReport, scrub: Scrubber) -> ReportOut:
        """A report, without paths of this machine."""
        receipt = report.value
        return cls(
            event_id=report.event.id,
            ok=report.ok,
            suspended=report.suspended,
            shadow=report.shadow,
            results=[HandlerOut.of(result, scrub) for result in report.results],
            receipt=ReceiptOut.of(receipt, scrub) if isinstance(receipt, Receipt) else None,
        )


class LetterOut(BaseModel):
    """A delivery that failed; `time` of the last attempt is in seconds of the epoch."""

    id: str
    event_id: str
    channel: InjectionChannel
    session: str | None
    handler: str
    error: str
    attempts: int
    time: float

    @classmethod
    def of(cls, letter: DeadLetter, scrub: Scrubber) -> LetterOut:
        """A dead letter."""
        return cls(
            id=letter.id,
            event_id=letter.event.id,
            channel=letter.event.channel,
            session=letter.event.context.session_id,
            handler=letter.handler,
            error=said(letter.error, scrub),
            attempts=letter.attempts,
            time=letter.time,
        )


class Letters(BaseModel):
    """Dead letters, oldest first."""

    data: list[LetterOut]


class Replay(BaseModel, extra="forbid"):
    """The letter to deliver again; all of them without one."""

    id: Line | None = None


class Replayed(BaseModel):
    """What became of the letters that were delivered again."""

    data: list[ReportOut]


def said(error: BaseException, scrub: Scrubber) -> str:
    """An error in words for clients; of one that is not ours, only what kind it is."""
    if isinstance(error, IntrinsicError):
        return scrub(str(error))
    return f"{type(error).__name__}; the server's log says more"
