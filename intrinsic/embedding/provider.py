"""`EmbeddingProvider`: texts as vectors, each under the adapters that it asks for."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Sequence, Sized
from contextlib import aclosing
from types import TracebackType
from typing import Self

import anyio
import anyio.to_thread
import numpy as np
from anyio.lowlevel import RunVar

from intrinsic.embedding.asking import Adapter, Adapters, Asking
from intrinsic.embedding.item import Item, Work
from intrinsic.embedding.opening import opened
from intrinsic.embedding.options import EmbeddingOptions, Form
from intrinsic.embedding.packing import gathered
from intrinsic.errors import EncoderError
from intrinsic.exiting import exit_waits
from intrinsic.registry import AdapterRegistry
from intrinsic.routing.encoder import clean
from intrinsic.routing.model_loading import BUNDLED_DIMENSION, BUNDLED_MODEL
from intrinsic.routing.pieces import unit_rows
from intrinsic.routing.query_batches import Answer, QueryBatches
from intrinsic.routing.router import Vectors
from intrinsic.routing.vector_cache import Vector
from intrinsic.worker import run_to_end

_GATHERED = 8
"""Batches of which the texts are tokenized together, since few of them hold many of one length."""

Progress = Callable[[int, int | None], object]
"""Is told how many texts are done, and of how many, where that is known."""


class EmbeddingProvider:
    """An encoder with LoRA adapters, which is an `Embedder` for routers as well.

    Calls from any task, thread and event loop are encoded together, whichever adapters they ask
    for. An adapter is named as in the registry, `name` or `name@version`, "default" is that of
    `lora_adapter_path`, "base" the encoder alone; mixtures weigh several. Files that have changed
    since an adapter was read are read again at its next use. All calls raise `EncoderError` where
    the model fails, and an `AdapterError` where an adapter cannot be served. `name` is the
    encoder's name or path.
    """

    def __init__(
        self,
        options: EmbeddingOptions | None = None,
        *,
        registry: AdapterRegistry | None = None,
    ) -> None:
        self.options = options or EmbeddingOptions()
        self.name = BUNDLED_MODEL if self.options.model is None else str(self.options.model)
        self._dimension = BUNDLED_DIMENSION if self.name == BUNDLED_MODEL else 0
        self._prompt = ""
        self._asking = Asking(registry, self.options.max_loaded)
        self._work: Work | None = None
        self._closed = False
        self._working = threading.RLock()
        self._one_load: RunVar[anyio.CapacityLimiter] = RunVar("intrinsic_embedding_load")
        self._batches = QueryBatches(
            self._loaded,
            self._encode,
            name=self.name,
            size=_GATHERED * self.options.batch_size,
            busy_timeout_s=self.options.busy_timeout_s,
        )

    @property
    def batch_size(self) -> int:
        """The most texts that are encoded at once."""
        return self.options.batch_size

    @property
    def dimension(self) -> int:
        """Length of a vector; known only after loading where the user named the model."""
        if self._dimension == 0:
            raise EncoderError(
                f"encoder {self.name!r} is not loaded, so its dimension is not known; "
                "await initialize() first"
            )
        return self._dimension

    @property
    def loaded_adapters(self) -> tuple[str, ...]:
        """The adapters that are on the encoder, least recently used first."""
        work = self._work
        return () if work is None else work.loaded

    @property
    def revision(self) -> str | None:
        """What the vectors of `embed` depend on that may change: the default adapter's files."""
        work = self._work
        return None if work is None else work.revision

    async def initialize(self) -> None:
        """Load the model and the adapter of `lora_adapter_path`; done twice it is done once.

        The first call that embeds does it, too, and leaves at its deadline while the load goes on.
        After `close()` it opens the provider again.
        Raises `EncoderError`, or an `AdapterError` unless `on_adapter_error` is "base"; then
        nothing is loaded.
        """
        await run_to_end(self._open)

    async def close(self) -> None:
        """Take the adapters off the model and let go of it, after the batch that is under way."""
        await run_to_end(self._close, at_once=True)

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def embed_text(
        self,
        text: str,
        instruction: str | None = None,
        *,
        form: Form = "query",
        adapter: Adapter = None,
    ) -> Vector:
        """Return the vector of one text, `(dimension,)` float32; see `embed_batch`."""
        found = await self.embed_batch([text], instruction, form=form, adapters=[adapter])
        vector: Vector = found[0]
        return vector

    async def embed_batch(
        self,
        texts: Sequence[str],
        instruction: str | None = None,
        *,
        form: Form = "query",
        adapters: Adapters = None,
    ) -> Vectors:
        """Return one vector per text, in their order, `(n_texts, dimension)` float32.

        `instruction` is a task of the options' table, of which `form` says the prefix, or a prefix
        itself. `adapters` is one for all texts or a sequence with one per text. Raises
        `ConfigError` for an unknown task and `CapacityError` for too large a mixture.
        """
        if isinstance(texts, str):
            raise EncoderError("embed_batch takes a list of texts; use embed_text for one")
        for at, text in enumerate(texts):
            if not isinstance(text, str):
                raise EncoderError(f"text {at} is {text!r:.80}; it must be a string")
        prefix = self.options.prefix(instruction, form)
        await self._ready()
        if instruction is None and self.options.task is None:
            prefix = self._prompt
        mixtures = self._asking.mixtures(adapters, len(texts))
        items = [Item(prefix, clean(t), m) for t, m in zip(texts, mixtures, strict=True)]
        return await self._vectors(items)

    async def embed_stream(
        self,
        chunks: Iterable[str] | AsyncIterable[str],
        progress: Progress | None = None,
        instruction: str | None = None,
        *,
        form: Form = "query",
        adapter: Adapter = None,
    ) -> AsyncGenerator[Vector, None]:
        """Yield the vector of each text, in their order; at most `batch_size` are held at once.

        `progress` is called after each batch with the number of texts that are done, and that of
        all where `chunks` has a length.
        """
        if isinstance(chunks, str):
            raise EncoderError("embed_stream takes an iterable of texts; use embed_text for one")
        total = len(chunks) if isinstance(chunks, Sized) else None
        done = 0
        async with aclosing(_batches(chunks, self.batch_size)) as batches:
            async for batch in batches:
                vectors = await self.embed_batch(batch, instruction, form=form, adapters=adapter)
                done += len(batch)
                if progress is not None:
                    progress(done, total)
                for vector in vectors:
                    yield vector

    async def warm_up(self) -> None:
        """Load what is to be loaded and encode one text."""
        await self.embed_text("warm up")

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors of queries, with the default adapter, as routers ask for them."""
        return self._units(await self.embed_batch(texts))

    async def embed_cards(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors of passages, with the default adapter, as routers ask for them."""
        return self._units(await self.embed_batch(texts, form="passage"))

    def _units(self, vectors: Vectors) -> Vectors:
        if self.options.normalize or not len(vectors):
            return vectors
        return unit_rows(vectors, len(vectors), self.name)

    async def _ready(self) -> None:
        if self._closed:
            raise self._is_closed()
        if self._work is None:
            await self._load_meanwhile()

    async def _load_meanwhile(self) -> None:
        """Load in a thread; whoever has a deadline leaves at once, and the load goes on."""
        try:
            limiter = self._one_load.get()
        except LookupError:  # those who wait take no threads, however often they try
            limiter = anyio.CapacityLimiter(1)
            self._one_load.set(limiter)
        await anyio.to_thread.run_sync(self._load, abandon_on_cancel=True, limiter=limiter)

    def _load(self) -> None:
        with exit_waits():
            self._loaded()

    async def _vectors(self, items: Sequence[Item]) -> Vectors:
        """One vector per item; those of about one length wait together, and few at a time."""
        vectors = np.zeros((len(items), self.dimension), np.float32)
        groups = gathered(
            items,
            texts=_GATHERED * self.options.batch_size,
            characters=_GATHERED * self.options.batch_tokens,
        )
        for group in groups:
            vectors[group] = await self._batches.embed([items[at] for at in group])
        return vectors

    def _encode(self, items: list[Item]) -> list[Answer]:
        with self._working:
            return self._loaded().encode(items)

    def _open(self) -> None:
        with self._working:
            self._closed = False
            self._loaded()

    def _loaded(self) -> Work:
        with self._working:
            if self._closed:
                raise self._is_closed()
            if self._work is None:
                self._work = opened(self.options, self._asking, self.name)
                self._dimension, self._prompt = self._work.dimension, self._work.prompt
            return self._work

    def _close(self) -> None:
        with self._working:
            work, self._work = self._work, None
            self._closed = True
            if work is not None:
                work.close()

    def _is_closed(self) -> EncoderError:
        return EncoderError(f"the provider of {self.name!r} is closed; await initialize() first")


async def _batches(
    chunks: Iterable[str] | AsyncIterable[str], size: int
) -> AsyncGenerator[list[str], None]:
    batch: list[str] = []
    if isinstance(chunks, AsyncIterable):
        async for text in chunks:
            batch.append(text)
            if len(batch) == size:
                yield batch
                batch = []
    else:
        for text in chunks:
            batch.append(text)
            if len(batch) == size:
                yield batch
                batch = []
    if batch:
        yield batch
