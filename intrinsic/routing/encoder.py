"""The default text encoder: loaded late, run off the event loop, callers' texts in batches.

Importing this module imports no tensor library.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
import numpy as np
from anyio.lowlevel import RunVar

from intrinsic.errors import ConfigError, EncoderError
from intrinsic.routing.disk_vectors import DiskVectors
from intrinsic.routing.encoder_options import EncoderOptions
from intrinsic.routing.model_loading import BUNDLED_DIMENSION, BUNDLED_MODEL
from intrinsic.routing.onnx_model import OnnxModel, onnx_installed
from intrinsic.routing.pieces import unit_rows
from intrinsic.routing.query_batches import QueryBatches
from intrinsic.routing.router import Vectors
from intrinsic.routing.text_model import TextModel, TorchModel, encode_whole
from intrinsic.routing.vector_cache import Vector, VectorCache

__all__ = ["EncoderOptions", "SentenceEncoder", "clean", "unit_rows"]

_T = TypeVar("_T")
_LOG = logging.getLogger("intrinsic.routing")
_LIMITER: RunVar[anyio.CapacityLimiter] = RunVar("intrinsic_encoder_limiter")
_CARDS_AT_ONCE = 1024


class SentenceEncoder:
    """An `Embedder` around any sentence-transformers model, by name or path.

    Without `model` it is the bundled one and needs no network. The model is loaded by the first
    call, or by `warm_up()`; calls that come while it is busy are encoded together. The vector of
    a text that is read in pieces is the mean of theirs, weighted by length. Raises `EncoderError`
    when the model is missing, unsound, busy for too long, fails, or gives values that are not
    finite, and `ConfigError` where `runtime="onnx"` is asked of another model than the bundled one.
    """

    def __init__(
        self, model: str | Path | None = None, *, options: EncoderOptions | None = None
    ) -> None:
        self.options = options or EncoderOptions()
        self._source = None if model is None or str(model) == BUNDLED_MODEL else str(model)
        if self.options.runtime == "onnx" and not self._may_be_onnx:
            raise ConfigError(
                f"runtime 'onnx' is for the bundled {BUNDLED_MODEL} on device 'cpu', not for "
                f"{self.name!r} on {self.options.device!r}; choose 'auto' or 'torch'"
            )
        self._dimension = BUNDLED_DIMENSION if self._source is None else 0
        self._model: TextModel | None = None
        self._loading = threading.Lock()
        self._cache = VectorCache(self.options.cached_texts)
        folder = self.options.cache_dir
        self._disk = (
            None if folder is None else DiskVectors(Path(folder), self.options.disk_cached_texts)
        )
        self._batches = QueryBatches(
            self._loaded,
            self._encode,
            name=self.name,
            size=self.options.batch_size,
            busy_timeout_s=self.options.busy_timeout_s,
        )

    @property
    def name(self) -> str:
        """The model's name or path."""
        return self._source or BUNDLED_MODEL

    @property
    def runtime(self) -> str:
        """What computes the vectors, "onnx" or "torch"; "auto" until that is decided."""
        if self._model is None:
            return self.options.runtime
        return "onnx" if isinstance(self._model, OnnxModel) else "torch"

    @property
    def dimension(self) -> int:
        """Length of a vector; known only after loading where the user named the model."""
        if self._dimension == 0:
            raise EncoderError(
                f"encoder {self.name!r} is not loaded, so its dimension is not known; "
                "await warm_up() first"
            )
        return self._dimension

    async def warm_up(self) -> None:
        """Load the model (make its int8 form where that is missing) and encode one text."""
        await self._batches.embed(["warm up"])

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector per text, in their order: `(n_texts, dimension)` float32.

        Nothing is written to disk. When the caller's deadline passes it returns at once; the batch
        that is being encoded is finished and cached.
        """
        return await self._embed([clean(text) for text in texts], on_disk=False)

    async def embed_cards(self, texts: Sequence[str]) -> Vectors:
        """As `embed`, for texts that are no user's: their vectors are kept on disk as well."""
        return await self._embed([clean(text) for text in texts], on_disk=self._disk is not None)

    async def _embed(self, texts: list[str], *, on_disk: bool) -> Vectors:
        if not texts:
            return np.zeros((0, self._dimension), np.float32)
        pairs = zip(texts, self._cache.get(texts), strict=True)
        known = {text: vector for text, vector in pairs if vector is not None}
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing and on_disk:
            known.update(await self._embed_cards(missing))
        elif missing:
            known.update(zip(missing, await self._batches.embed(missing), strict=True))
        return np.stack([known[text] for text in texts])

    async def _embed_cards(self, texts: list[str]) -> dict[str, Vector]:
        found = await _in_thread(partial(self._from_disk, texts))
        missing = [text for text in texts if text not in found]
        for at in range(0, len(missing), _CARDS_AT_ONCE):
            some = missing[at : at + _CARDS_AT_ONCE]
            vectors = await self._batches.embed(some)
            found.update(zip(some, vectors, strict=True))
            await _in_thread(partial(self._to_disk, some, vectors))
        return found

    def _from_disk(self, texts: list[str]) -> dict[str, Vector]:
        identity = self._identity()
        if self._disk is None or identity is None:
            return {}
        found = zip(texts, self._disk.get(identity, texts), strict=True)
        return {
            text: vector
            for text, vector in found
            if vector is not None and len(vector) == self._dimension
        }

    def _to_disk(self, texts: list[str], vectors: Vectors) -> None:
        identity = self._identity()
        if self._disk is not None and identity is not None:
            self._disk.put(identity, texts, vectors)

    def _identity(self) -> str | None:
        identity = self._loaded().identity
        return None if identity is None else f"{identity} pieces:{self.options.max_pieces}"

    def _encode(self, texts: list[str]) -> Vectors:
        pairs = zip(texts, self._cache.get(texts), strict=True)  # another batch may have had some
        known = {text: vector for text, vector in pairs if vector is not None}
        missing = [text for text in texts if text not in known]
        if missing:
            fresh = self._encode_anew(missing)
            self._cache.put(missing, fresh)
            known.update(zip(missing, fresh, strict=True))
        return np.stack([known[text] for text in texts])

    def _encode_anew(self, texts: list[str]) -> Vectors:
        options = self.options
        return encode_whole(
            self._loaded(),
            texts,
            batch_size=options.batch_size,
            max_pieces=options.max_pieces,
            name=self.name,
        )

    def _loaded(self) -> TextModel:
        with self._loading:
            if self._model is None:
                self._model = self._load()
                self._dimension = self._model.dimension
            return self._model

    def _load(self) -> TextModel:
        options = self.options
        folder = None if options.cache_dir is None else Path(options.cache_dir)
        if options.runtime == "onnx":
            return OnnxModel(folder, options.threads, middle_layer=options.middle_layer)
        if options.runtime == "auto" and self._may_be_onnx and onnx_installed():
            try:
                return OnnxModel(folder, options.threads, middle_layer=options.middle_layer)
            except EncoderError as error:
                _LOG.warning("the encoder runs in torch: %s", error)
        return TorchModel(self._source, options.device, middle_layer=options.middle_layer)

    @property
    def _may_be_onnx(self) -> bool:
        return self._source is None and self.options.device == "cpu"


def clean(text: str) -> str:
    """Return `text` without lone surrogates, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")


async def _in_thread(work: Callable[[], _T]) -> _T:
    try:
        limiter = _LIMITER.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(1)
        _LIMITER.set(limiter)
    return await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=limiter)
