"""The right to generate under a mixture."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

import anyio

from intrinsic.backends import (
    AnswerScore,
    Generation,
    GenerationOptions,
    ModelBackend,
    Piece,
    Prompt,
)
from intrinsic.backends.older import pieces_of
from intrinsic.backends.options import GREEDY
from intrinsic.errors import MixtureError
from intrinsic.mixture import Mixture
from intrinsic.receipt import Skipped

Heard = Callable[[int, float], Awaitable[None]]
"""Told after a generation: its tokens, and milliseconds."""


class Lease:
    """While it is held, `mixture` is what its calls run under, and its adapters stay.

    `mixture` has the weights in force: those asked for times each adapter's run-time scaling.
    `skipped` are adapters of a routed mixture that could not be used, and why.
    """

    def __init__(
        self,
        backend: ModelBackend,
        mixture: Mixture,
        on_generation: Heard,
        skipped: tuple[Skipped, ...] = (),
    ) -> None:
        self.mixture = mixture
        self.skipped = skipped
        self._streams: list[AsyncGenerator[Piece | Generation, None]] = []
        self._backend = backend
        self._on_generation = on_generation
        self._held = True

    @property
    def adapters(self) -> tuple[str, ...]:
        """The adapters in the mixture, `name@version`."""
        return self.mixture.adapters

    async def generate(self, prompt: Prompt, options: GenerationOptions = GREEDY) -> Generation:
        """Answer a prompt under the mixture. Raises `MixtureError` after the block."""
        self._check_held()
        generation = await self._backend.generate(prompt, mixture=self.mixture, options=options)
        await self._on_generation(generation.tokens, generation.generate_ms)
        return generation

    async def stream(
        self, prompt: Prompt, options: GenerationOptions = GREEDY
    ) -> AsyncGenerator[str, None]:
        """Answer a prompt under the mixture, piece by piece, within the lease."""
        async with aclosing(self.pieces(prompt, options)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Piece):
                    yield piece.text

    async def pieces(
        self, prompt: Prompt, options: GenerationOptions = GREEDY
    ) -> AsyncGenerator[Piece | Generation, None]:
        """Answer a prompt as `stream` does, with counts; last of all comes the whole."""
        self._check_held()
        stream = pieces_of(self._backend, prompt, self.mixture, options)
        self._streams.append(stream)
        try:
            async with aclosing(stream) as pieces:
                async for piece in pieces:
                    self._check_held()
                    if isinstance(piece, Generation):
                        await self._on_generation(piece.tokens, piece.generate_ms)
                    yield piece
        finally:
            self._streams.remove(stream)

    async def score(self, prompt: Prompt, answers: Sequence[str]) -> list[AnswerScore]:
        """Log-likelihoods of answers under the mixture."""
        self._check_held()
        return await self._backend.score(prompt, answers, mixture=self.mixture)

    async def end(self) -> None:
        """Called by the manager when the lease is given back; closes streams that were left."""
        self._held = False
        with anyio.CancelScope(shield=True):
            for stream in self._streams:
                await stream.aclose()

    def _check_held(self) -> None:
        if not self._held:
            raise MixtureError("this lease was given back; generate inside its 'async with' block")
