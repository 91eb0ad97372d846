"""`/v1/events`: memories published over HTTP, deliveries that failed, and the kill switch."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel

from intrinsic.errors import BusClosedError, BusError
from intrinsic.events import EventContext, InjectionChannel, MemoryEvent, MemoryVector
from intrinsic.receipt import Receipt
from intrinsic.server.access import Admin, Plain, Serving
from intrinsic.server.account import account_of
from intrinsic.server.envelope import ApiError
from intrinsic.server.event_bodies import (
    EventIn,
    LetterOut,
    Letters,
    MemoryIn,
    Replay,
    Replayed,
    ReportOut,
)
from intrinsic.server.fields import Label
from intrinsic.server.refusals import refusals
from intrinsic.server.service import Service
from intrinsic.server.turn import turn
from intrinsic.wiring.wishes import RouteWishes

router = APIRouter(tags=["events"])


class Suspend(BaseModel, extra="forbid"):
    """Why nothing shall be injected any more."""

    reason: Label


class BusState(BaseModel):
    """Why the kill switch is thrown (null: it is not), and what the bus counted."""

    suspended: str | None
    shadow: bool
    statistics: dict[str, int]


@router.post(
    "/v1/events",
    summary="Publish memories",
    responses=refusals(403, 404, 429),
)
async def publish(asked: EventIn, request: Request, service: Serving, who: Plain) -> ReportOut:
    """Hand memories to the handlers of their channel, and say what each made of them.

    On `dynamic_lora` adapters are chosen and loaded; the receipt says which.
    """
    if asked.channel is InjectionChannel.DYNAMIC_LORA:
        RouteWishes.of(asked.metadata)
    if not who.admin and any(one.lora_adapter_path is not None for one in asked.vectors):
        raise ApiError(403, "naming an adapter by its path needs the admin key")
    event = MemoryEvent(
        channel=asked.channel,
        vectors=tuple([await _vector(service, n, one) for n, one in enumerate(asked.vectors, 1)]),
        context=EventContext(asked.request_id, asked.session),
        metadata=asked.metadata,
    )
    async with turn(request, service.queue.place()):
        with service.tracing.span("event", event_id=event.id):
            report = await service.system.bus.publish(event)
            if isinstance(report.value, Receipt):
                account_of(request).routed(report.value)
    return ReportOut.of(report, service.scrub)


@router.get("/v1/events/dead-letters", summary="List deliveries that failed")
async def dead_letters(service: Serving, _: Admin) -> Letters:
    """The deliveries that failed and were not replayed, oldest first."""
    letters = service.system.bus.dead_letters
    return Letters(data=[LetterOut.of(letter, service.scrub) for letter in letters])


@router.post(
    "/v1/events/dead-letters/replay",
    summary="Deliver again what failed",
    responses=refusals(404, 429),
)
async def replay(
    request: Request, service: Serving, _: Admin, asked: Replay | None = None
) -> Replayed:
    """Deliver one dead letter, or all, to whom failed; what succeeds leaves the list."""
    letter = None if asked is None else asked.id
    async with turn(request, service.queue.place()):
        try:
            reports = await service.system.bus.replay(letter)
        except BusClosedError:
            raise
        except BusError as error:
            raise ApiError(404, str(error)) from None
    return Replayed(data=[ReportOut.of(report, service.scrub) for report in reports])


@router.get("/v1/bus", summary="How the bus is")
async def state(service: Serving, _: Admin) -> BusState:
    """Whether the kill switch is thrown, and the counters of the bus."""
    return _state(service)


@router.post("/v1/bus/suspend", summary="Throw the kill switch")
async def suspend(asked: Suspend, service: Serving, _: Admin) -> BusState:
    """From the next request on nothing is injected, and the base model answers."""
    service.system.bus.suspend(asked.reason)
    return _state(service)


@router.post("/v1/bus/resume", summary="Take the kill switch back")
async def resume(service: Serving, _: Admin) -> BusState:
    """Call handlers again."""
    service.system.bus.resume()
    return _state(service)


def _state(service: Service) -> BusState:
    bus = service.system.bus
    return BusState(
        suspended=bus.suspended, shadow=bus.shadow, statistics=bus.statistics()._asdict()
    )


async def _vector(service: Service, number: int, memory: MemoryIn) -> MemoryVector:
    path: str | None = None
    if memory.lora_adapter_path is not None:
        path = str(await service.adapters.folders.find(memory.lora_adapter_path))
    return MemoryVector(
        memory.memory_id or f"memory-{number}",
        memory.text,
        relevance_score=memory.relevance,
        injection_strength=memory.strength,
        decay_factor=memory.decay,
        channel=memory.channel,
        lora_adapter_path=path,
    )
