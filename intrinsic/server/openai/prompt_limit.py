"""Prompts that are longer than the server takes are refused before anything is done for them."""

from __future__ import annotations

from collections.abc import Callable

from intrinsic.backends import Prompt
from intrinsic.server.envelope import ApiError
from intrinsic.server.service import Service
from intrinsic.worker import run_to_end


async def check_length(service: Service, *prompts: Prompt) -> None:
    """Raise a 400 for a prompt of more than `max_prompt_tokens`; 0 leaves it to the model.

    A backend that cannot count is not asked.
    """
    most = service.options.max_prompt_tokens
    count: Callable[[Prompt], int] | None = getattr(service.system.backend, "count_tokens", None)
    if not most or count is None:
        return
    for prompt in prompts:
        tokens = await run_to_end(count, prompt)
        if tokens > most:
            raise ApiError(
                400, f"the prompt has {tokens} tokens and this server takes {most}; shorten it"
            )
