"""`/v1/route`: which adapters a text would get, without generating."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, model_validator

from intrinsic.conversation import conversation_event
from intrinsic.errors import RoutingError
from intrinsic.events import MemoryVector
from intrinsic.routing.card_router import CardRouter
from intrinsic.routing.explanation import explain
from intrinsic.routing.router import RankingRouter
from intrinsic.selection import RouteContext, Selection
from intrinsic.server.access import Plain, Serving
from intrinsic.server.decisions import Candidate, Chosen
from intrinsic.server.envelope import ApiError
from intrinsic.server.fields import AdapterName, Label, Share, Text
from intrinsic.server.refusals import refusals
from intrinsic.server.service import Service
from intrinsic.server.turn import turn
from intrinsic.wiring.wishes import MOST

router = APIRouter(tags=["routing"])


class TextPart(BaseModel):
    """A part of a message that is text."""

    text: Text


class Message(BaseModel):
    """What somebody said."""

    role: Label
    content: Text | Annotated[list[TextPart], Field(max_length=64)]


class RouteRequest(BaseModel, extra="forbid"):
    """A text, or a conversation whose user's turns count, and how to route it.

    `ranked` candidates are listed, and with `explain` why they are where they are.
    """

    text: Text | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)] | None = None
    session: Label | None = None
    top_k: Annotated[int, Field(ge=1, le=MOST)] | None = None
    threshold: Share | None = None
    exclude: Annotated[list[AdapterName], Field(max_length=MOST)] = []
    ranked: Annotated[int, Field(ge=0, le=MOST)] = 10
    explain: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> RouteRequest:
        if (self.text is None) == (self.messages is None):
            raise ValueError("give either text or messages")
        return self


class RouteAnswer(BaseModel):
    """What was chosen, best first, and what there was to choose from.

    `none_fits`: the base model would answer. `suspended`: it does now, whatever is chosen.
    """

    selections: list[Chosen]
    none_fits: bool
    ranking: list[Candidate]
    suspended: bool
    route_ms: float


@router.post("/v1/route", summary="Decide without generating", responses=refusals(409, 429))
async def route(asked: RouteRequest, request: Request, service: Serving, _: Plain) -> RouteAnswer:
    """Choose adapters for a text; no session remembers it, and nothing is loaded."""
    query, memories = _question(asked)
    context = RouteContext(
        session_id=asked.session,
        memories=memories,
        exclude=frozenset(asked.exclude),
        threshold=asked.threshold,
        trial=True,
    )
    async with turn(request, service.queue.place()):
        start = time.perf_counter()
        try:
            chosen, ranking = await _decide(service, asked, query, context)
        except RoutingError as error:
            raise ApiError(503, f"routing failed: {error}") from None
        took = (time.perf_counter() - start) * 1e3
    return RouteAnswer(
        selections=chosen,
        none_fits=not chosen,
        ranking=ranking[: asked.ranked],
        suspended=service.system.bus.suspended is not None,
        route_ms=took,
    )


async def _decide(
    service: Service, asked: RouteRequest, query: str, context: RouteContext
) -> tuple[list[Chosen], list[Candidate]]:
    router = service.system.router
    cards = [entry.card for entry in service.system.registry.list_adapters()]
    top_k = router.top_k if asked.top_k is None else asked.top_k
    if asked.explain:
        if not isinstance(router.router, RankingRouter):
            raise ApiError(409, "this server's router only chooses; ask without explain")
        explained = await explain(
            router.router,
            query,
            candidates=cards,
            top_k=top_k,
            context=context,
            decided_by=router,
        )
        return (
            [Chosen.of(one) for one in explained.selections],
            [Candidate.explained(one) for one in explained.candidates],
        )
    selections = await router.route(query, candidates=cards, top_k=top_k, context=context)
    ranked: list[Selection] = []
    if isinstance(router.router, CardRouter):
        ranked = await router.router.rank(
            query, candidates=cards, context=context, first=asked.ranked
        )
    elif asked.ranked and cards:
        ranked = await router.rank(query, candidates=cards, context=context)
    return (
        [Chosen.of(one) for one in selections],
        [Candidate(**Chosen.of(one).model_dump()) for one in ranked],
    )


def _question(asked: RouteRequest) -> tuple[str, tuple[MemoryVector, ...]]:
    """The query, and the memories that it is made of."""
    if asked.messages is None:
        return asked.text or "", ()
    turns = [{"role": one.role, "content": _said(one)} for one in asked.messages]
    event = conversation_event(turns)
    return event.text, event.vectors


def _said(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.text for part in message.content)
