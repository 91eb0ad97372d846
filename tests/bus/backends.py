"""Run a test under asyncio and under trio, whatever plugins pytest has."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest

BACKENDS = ("asyncio", "trio")
DEADLINE_S = 20.0


def both_backends(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Turn an async test into a plain one that runs once per backend, and never hangs."""

    @functools.wraps(test)
    def run(*, backend: str, **arguments: object) -> None:
        async def main() -> None:
            with anyio.fail_after(DEADLINE_S):
                await test(**arguments)

        anyio.run(main, backend=backend)

    backend = inspect.Parameter("backend", inspect.Parameter.KEYWORD_ONLY)
    signature = inspect.signature(test)
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), backend]
    )
    marked: Callable[..., None] = pytest.mark.parametrize("backend", BACKENDS)(run)
    return marked
