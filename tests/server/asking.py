"""What tests ask a server and its model for."""

from __future__ import annotations

from typing import Any

import anyio
import httpx

from intrinsic.backends import GenerationOptions
from tests.server.serving import Served

PROMPT = "say something"
_OPTIONS = GenerationOptions(max_new_tokens=12)


def output(served: Served, what: Any = None) -> tuple[str, float]:
    """The text that the model gives under a mixture, and the log-likelihood of an answer, exactly.

    None is what requests get that ask for nothing.
    """

    async def ask() -> tuple[str, float]:
        async with served.service.system.manager.lease(what) as lease:
            generation = await lease.generate(PROMPT, _OPTIONS)
            (score,) = await lease.score(PROMPT, ["an answer"])
            return generation.text, score.log_likelihood

    found: tuple[str, float] = served.call(ask)
    return found


def fingerprint(served: Served) -> str:
    """The model's weights, as they are now."""
    found: str = served.call(served.service.system.backend.fingerprint)
    return found


def has_left(served: Served, adapter: str) -> bool:
    """Wait until no version of a name, or a version, is in memory any more."""
    manager = served.service.system.manager

    async def wait() -> bool:
        with anyio.fail_after(20):
            while any(adapter in (k, k.partition("@")[0]) for k in manager.get_near_adapters()):
                await anyio.lowlevel.checkpoint()
        return True

    left: bool = served.call(wait)
    return left


def refused(answer: httpx.Response, status: int, kind: str) -> str:
    """Check the one form of a refusal, and return its sentence."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    message: str = body["message"]
    assert body == {
        "status_code": status,
        "message": message,
        "detail": message,
        "error": {"message": message, "type": kind, "code": kind},
    }
    return message
