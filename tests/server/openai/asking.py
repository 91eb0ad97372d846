"""OpenAI's own clients against a server of the tests, and what it must answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import openai
import pytest

from intrinsic.backends import ChatMessage, Generation, GenerationOptions, Prompt
from tests.server.serving import Served
from tests.test_worker import Gate

TURNS: list[Any] = [{"role": "user", "content": "tell me of it"}]


@contextmanager
def client(served: Served, **options: Any) -> Iterator[openai.OpenAI]:
    """A client that asks once."""
    with openai.OpenAI(
        base_url=f"{served.url}/v1", api_key=served.api_key, max_retries=0, timeout=30.0, **options
    ) as made:
        yield made


def said(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def reference(
    served: Served,
    prompt: Prompt | Sequence[ChatMessage],
    weights: Mapping[str, float],
    **options: Any,
) -> Generation:
    """What the manager answers without HTTP."""

    async def ask() -> Generation:
        async with served.service.system.manager.lease(weights) as lease:
            return await lease.generate(prompt, GenerationOptions(**options))

    found: Generation = served.call(ask)
    return found


def until_idle(served: Served) -> None:
    """Come back when no request runs; then nothing of one may be left."""
    served.call(served.service.running.wait_until_idle)
    assert served.service.queue.running == served.service.queue.waiting == 0
    assert served.service.system.manager.get_stats()["leases"] == 0


def rows(served: Served) -> int:
    """How many rows the scheduler has."""
    runner: Any = vars(served.service.system.backend)["_runner"]
    batched = sum(len(batch.rows) for batch in runner._batches)
    return batched + len(runner._reader.rows) + len(runner._waiting)


@contextmanager
def gated(served: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Hold each forward pass until the gate is opened; it is opened at the end."""
    gate = Gate()
    model: Any = vars(served.service.system.backend)["model"]
    forward = model.forward

    def wait_and_go(*args: object, **kwargs: object) -> Any:
        gate()
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", wait_and_go)
    try:
        yield gate
    finally:
        gate.opened.set()


def refused(call: Any, status: int, kind: str) -> str:
    """Make a call that is refused, check its form, and return its sentence."""
    with pytest.raises(openai.APIStatusError) as caught:
        call()
    body = caught.value.response.json()
    assert caught.value.status_code == status, body
    message: str = body["message"]
    assert body == {
        "status_code": status,
        "message": message,
        "detail": message,
        "error": {"message": message, "type": kind, "code": kind},
    }
    assert caught.value.type == kind
    return message
