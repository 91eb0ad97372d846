"""The boundary to a text encoder that may be anybody's: deadline, isolation, sound vectors."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
import numpy as np

from intrinsic.errors import EncoderError
from intrinsic.routing.encoder import unit_rows
from intrinsic.routing.options import RouterOptions
from intrinsic.routing.router import Embedder, Vectors
from intrinsic.routing.vector_cache import Vector, VectorCache

_BATCH = 256

_T = TypeVar("_T")


class EncoderGuard:
    """Asks an embedder, and raises nothing but `EncoderError`.

    Vectors of cards are kept by text; those of queries are left to the encoder's own cache.
    After an encoder overran its deadline it is left alone for `encoder_retry_s`.
    """

    def __init__(
        self,
        embedder: Embedder,
        options: RouterOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._embedder = embedder
        self._options = options
        self._clock = clock
        self._cache = VectorCache(options.cached_texts)
        self._retry_at = float("-inf")
        self._dimension = 0

    @property
    def revision(self) -> object:
        """What the embedder's vectors depend on that may change, where it says so (`revision`)."""
        return getattr(self._embedder, "revision", None)

    def forget(self) -> None:
        """Drop the vectors of cards."""
        self._cache = VectorCache(self._options.cached_texts)

    async def bounded(self, work: Callable[[], Awaitable[_T]], *, patient: bool = False) -> _T:
        """Run `work`, which asks this guard, under the deadline of one request.

        A `patient` call has no deadline, and ends the pause after an overrun.
        """
        if patient:
            result = await work()
            self._retry_at = float("-inf")
            return result
        wait_s = self._retry_at - self._clock()
        if wait_s > 0:
            raise EncoderError(f"it overran its deadline and is left alone for {wait_s:.0f} s more")
        answered = self._dimension > 0
        options = self._options
        timeout_s = options.encoder_timeout_s if answered else options.encoder_load_timeout_s
        try:
            with anyio.fail_after(timeout_s):
                return await work()
        except TimeoutError:
            self._retry_at = self._clock() + options.encoder_retry_s
            raise EncoderError(f"it did not answer within {timeout_s:g} s") from None

    async def embed_query(self, text: str) -> Vector:
        """Return the unit vector of one text, `(dimension,)`."""
        query: Vector = (await self.embed_queries([text]))[0]
        return query

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector per text, `(n_texts, dimension)`, of one call to the encoder."""
        return await self._ask(list(texts))

    async def embed_cards(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector per text, `(n_texts, dimension)`.

        What was embedded before a deadline is kept, so that the next call goes on from there.
        """
        unique = list(dict.fromkeys(texts))
        fetched: dict[str, Vector] = {}
        for at in range(0, len(unique), _BATCH):
            batch = unique[at : at + _BATCH]
            known = zip(batch, self._cache.get(batch), strict=True)
            fetched.update((text, vector) for text, vector in known if vector is not None)
            missing = [text for text in batch if text not in fetched]
            if missing:
                vectors = await self._ask(missing, cards=True)
                self._cache.put(missing, vectors)
                fetched.update(zip(missing, vectors, strict=True))
            else:
                await anyio.lowlevel.checkpoint()  # many known texts are no reason to block
        if len(texts) <= _BATCH:
            return np.stack([fetched[text] for text in texts])
        rows = [fetched[text] for text in texts]
        return await anyio.to_thread.run_sync(np.stack, rows)

    async def _ask(self, texts: list[str], *, cards: bool = False) -> Vectors:
        embed = self._embedder.embed
        if cards:  # an embedder may keep what is no user's text
            embed = getattr(self._embedder, "embed_cards", embed)
        try:
            values = np.asarray(await embed(texts))
            vectors = unit_rows(values, len(texts), type(self._embedder).__name__)
        except EncoderError:
            raise
        except Exception as error:  # an encoder is a plugin; a deadline of ours is a cancellation
            raise EncoderError(f"it raised {type(error).__name__}: {error}") from error
        if self._dimension not in (0, vectors.shape[1]):
            raise EncoderError(
                f"it gave vectors of {vectors.shape[1]} numbers after vectors of {self._dimension}"
            )
        self._dimension = vectors.shape[1]
        return vectors
