"""`POST /v1/completions`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import APIRouter, Request
from starlette.responses import Response

from intrinsic.backends import RawPrompt
from intrinsic.server.access import Plain, Serving
from intrinsic.server.account import account_of
from intrinsic.server.envelope import ApiError
from intrinsic.server.openai.answering import Answering, Question
from intrinsic.server.openai.chat import EVENTS
from intrinsic.server.openai.completion_answer import CompletionForm, TextCompletion
from intrinsic.server.openai.completion_request import LENGTH, CompletionRequest
from intrinsic.server.openai.defaults import defaults_of
from intrinsic.server.openai.prompt_limit import check_length
from intrinsic.server.openai.target import target_of
from intrinsic.server.refusals import refusals
from intrinsic.server.service import Service

router = APIRouter(tags=["openai"])


@router.post(
    "/v1/completions",
    summary="Go on with a text",
    response_class=Response,
    responses={
        200: {"model": TextCompletion, "content": EVENTS, "description": "The answer"},
        **refusals(404, 409, 429),
    },
)
async def completions(
    body: CompletionRequest, request: Request, service: Serving, who: Plain
) -> Response:
    """Go on with each prompt as it is; several prompts are routed each by itself."""
    body.check()
    defaults = defaults_of(service, unset=LENGTH)
    options = body.decoding(
        defaults.options,
        max_tokens=body.max_tokens or defaults.max_tokens,
        logprobs=body.logprobs,
    )
    target, prompts = target_of(service, body.model, body.lora), body.prompts
    await check_length(service, *prompts)
    routed = target.mixture is None and not target.active
    texts = _texts(service, prompts) if routed or body.echo else [""] * len(prompts)
    echoed = enumerate(text for text in texts for _ in range(body.choices))
    return Answering(
        account_of(request),
        target,
        [
            Question(prompt, [{"role": "user", "content": text}], body.each(options))
            for prompt, text in zip(prompts, texts, strict=True)
        ],
        CompletionForm(
            body.model or service.model_name,
            logprobs=options.logprobs is not None,
            usage=body.include_usage,
            echoes=dict(echoed) if body.echo else {},
            several=len(prompts) > 1,
        ),
        stream=body.stream,
        include_usage=body.include_usage,
        ignored=body.ignored,
    )


def _texts(service: Service, prompts: Sequence[RawPrompt]) -> list[str]:
    """The prompts as texts, to route by or to echo."""
    read: Callable[[Sequence[int]], str] | None = getattr(service.system.backend, "text_of", None)
    texts = []
    for prompt in prompts:
        if prompt.text is not None:
            texts.append(prompt.text)
        elif read is None:
            raise ApiError(400, "this model cannot read token ids back; send texts")
        else:
            texts.append(read(prompt.ids or ()))
    return texts
