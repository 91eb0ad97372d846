"""`POST /v1/chat/completions`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from intrinsic.server.access import Plain, Serving
from intrinsic.server.account import account_of
from intrinsic.server.openai.answering import Answering, Question
from intrinsic.server.openai.chat_answer import ChatCompletion, ChatForm
from intrinsic.server.openai.chat_request import ChatRequest
from intrinsic.server.openai.defaults import defaults_of
from intrinsic.server.openai.prompt_limit import check_length
from intrinsic.server.openai.target import target_of
from intrinsic.server.refusals import refusals

router = APIRouter(tags=["openai"])

EVENTS: dict[str, Any] = {"text/event-stream": {"schema": {"title": "Server-sent events"}}}
"""What a route that also streams adds to its documentation."""


@router.post(
    "/v1/chat/completions",
    summary="Answer a conversation",
    response_class=Response,
    responses={
        200: {"model": ChatCompletion, "content": EVENTS, "description": "The answer"},
        **refusals(404, 409, 429),
    },
)
async def chat(body: ChatRequest, request: Request, service: Serving, who: Plain) -> Response:
    """Route the conversation, or run it under the adapters that `model` or `lora` name."""
    body.check()
    defaults = defaults_of(service)
    options = body.decoding(
        defaults.options,
        max_tokens=body.max_completion_tokens or body.max_tokens or defaults.max_tokens,
        logprobs=body.alternatives,
    )
    target, turns = target_of(service, body.model, body.lora), body.turns
    await check_length(service, turns)
    return Answering(
        account_of(request),
        target,
        [Question(turns, turns, body.each(options))],
        ChatForm(
            body.model or service.model_name,
            logprobs=options.logprobs is not None,
            usage=body.include_usage,
        ),
        stream=body.stream,
        include_usage=body.include_usage,
        ignored=body.ignored,
    )
