"""Backends of plugins that were written before `pieces` was asked of them."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from intrinsic.backends.backend import ModelBackend
from intrinsic.backends.generation import Generation, Piece
from intrinsic.backends.options import GenerationOptions
from intrinsic.backends.prompt import Prompt
from intrinsic.mixture import Mixture


def pieces_of(
    backend: ModelBackend, prompt: Prompt, mixture: Mixture, options: GenerationOptions
) -> AsyncGenerator[Piece | Generation, None]:
    """The backend's own `pieces`; where it has none, its `stream`, each piece taken for a token.

    Of a stream nobody says how long the prompt was (0 is told), nor why it ended: "length" where
    as many pieces came as tokens were allowed.
    """
    own = getattr(backend, "pieces", None)
    if own is None:
        return _streamed(backend, prompt, mixture, options)
    pieces: AsyncGenerator[Piece | Generation, None] = own(prompt, mixture=mixture, options=options)
    return pieces


async def _streamed(
    backend: ModelBackend, prompt: Prompt, mixture: Mixture, options: GenerationOptions
) -> AsyncGenerator[Piece | Generation, None]:
    start, texts = time.perf_counter(), list[str]()
    async with aclosing(backend.stream(prompt, mixture=mixture, options=options)) as stream:
        async for text in stream:
            texts.append(text)
            yield Piece(text)
    spent_ms = (time.perf_counter() - start) * 1e3
    full = len(texts) >= options.max_new_tokens
    yield Generation("".join(texts), len(texts), 0, "length" if full else "stop", spent_ms)
