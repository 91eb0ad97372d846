"""The default text encoder: sentence-transformers, loaded late, run off the event loop.

Importing this module imports no tensor library.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import numpy as np
from anyio.lowlevel import RunVar

from intrinsic.errors import ConfigError, EncoderError
from intrinsic.routing.model_loading import BUNDLED_DIMENSION, BUNDLED_MODEL, load_model
from intrinsic.routing.router import Vectors
from intrinsic.routing.vector_cache import VectorCache

_T = TypeVar("_T")
_LIMITER: RunVar[anyio.CapacityLimiter] = RunVar("intrinsic_encoder_limiter")


@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """How a `SentenceEncoder` works.

    `cached_texts` vectors are kept by text. A text of more tokens than the model reads at once
    is read in pieces; if these are more than `max_pieces`, that many, spread evenly over it.
    `busy_timeout_s` bounds the wait for another thread that holds the model.
    """

    device: str = "cpu"
    batch_size: int = 32
    cached_texts: int = 2048
    max_pieces: int = 16
    busy_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("max_pieces", 1), ("cached_texts", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if not self.busy_timeout_s > 0:
            raise ConfigError(f"busy_timeout_s is {self.busy_timeout_s}; it must be above 0")


class SentenceEncoder:
    """An `Embedder` around any sentence-transformers model, by name or path.

    Without `model` it is the bundled one and needs no network. The model is loaded by the first
    call, or by `warm_up()`; concurrent calls take turns. The vector of a text that is read in
    pieces is the mean of theirs, weighted by length. Raises `EncoderError` when the model is
    missing, unsound, busy for too long, fails, or gives values that are not finite.
    """

    def __init__(
        self, model: str | Path | None = None, *, options: EncoderOptions | None = None
    ) -> None:
        self.options = options or EncoderOptions()
        self._source = None if model is None or str(model) == BUNDLED_MODEL else str(model)
        self._dimension = BUNDLED_DIMENSION if self._source is None else 0
        self._model: Any = None
        self._turn = threading.Lock()
        self._cache = VectorCache(self.options.cached_texts)

    @property
    def name(self) -> str:
        """The model's name or path."""
        return self._source or BUNDLED_MODEL

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
        """Load the model and encode one text, so that the first request does not pay for it."""
        await _in_thread(lambda: self._take_turn(["warm up"]))

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector per text, in their order: `(n_texts, dimension)` float32.

        When the caller's deadline passes it returns at once; the work in the thread goes on and
        what it made is cached.
        """
        wanted = [clean(text) for text in texts]
        if not wanted:
            return np.zeros((0, self._dimension), np.float32)
        found = [vector for vector in self._cache.get(wanted) if vector is not None]
        if len(found) == len(wanted):
            return np.stack(found)
        return await _in_thread(lambda: self._take_turn(wanted))

    def _take_turn(self, texts: list[str]) -> Vectors:
        if not self._turn.acquire(timeout=self.options.busy_timeout_s):
            raise EncoderError(
                f"encoder {self.name!r} was busy for {self.options.busy_timeout_s:g} s; "
                "raise busy_timeout_s or send fewer texts at once"
            )
        try:
            found = zip(texts, self._cache.get(texts), strict=True)
            vectors = {text: vector for text, vector in found if vector is not None}
            missing = [text for text in dict.fromkeys(texts) if text not in vectors]
            if missing:
                fresh = self._encode(missing)
                self._cache.put(missing, fresh)
                vectors.update(zip(missing, fresh, strict=True))
            return np.stack([vectors[text] for text in texts])
        finally:
            self._turn.release()

    def _encode(self, texts: list[str]) -> Vectors:
        model = self._loaded()
        try:
            pieces = [self._pieces(model, text) for text in texts]
            flat = [piece for of_text in pieces for piece in of_text]
            raw = model.encode(
                flat,
                batch_size=self.options.batch_size,
                show_progress_bar=False,
                convert_to_numpy=True,
            )
        except Exception as error:
            raise EncoderError(f"encoder {self.name!r} failed: {error}") from error
        vectors = unit_rows(np.asarray(raw), len(flat), self.name)
        if len(flat) == len(texts):
            return vectors
        return _means(vectors, [[len(piece) + 1 for piece in of_text] for of_text in pieces])

    def _pieces(self, model: Any, text: str) -> list[str]:  # noqa: ANN401
        limit = int(getattr(model, "max_seq_length", None) or 0) - 2  # room for [CLS] and [SEP]
        if limit < 1 or len(text) <= limit:
            return [text]
        tokens = model.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        offsets = tokens["offset_mapping"]
        if len(offsets) <= limit:
            return [text]
        firsts = list(range(0, len(offsets), limit))
        if len(firsts) > self.options.max_pieces:
            spread = np.linspace(0, len(firsts) - 1, self.options.max_pieces).round().astype(int)
            firsts = [firsts[at] for at in spread]
        lasts = [min(first + limit, len(offsets)) - 1 for first in firsts]
        return [
            text[offsets[first][0] : offsets[last][1]]
            for first, last in zip(firsts, lasts, strict=True)
        ]

    def _loaded(self) -> Any:  # noqa: ANN401
        if self._model is None:
            self._model = load_model(self._source, self.options.device)
            get = getattr(self._model, "get_embedding_dimension", None)
            get = get or self._model.get_sentence_embedding_dimension
            self._dimension = int(get() or 0)
        return self._model


def clean(text: str) -> str:
    """Return `text` without lone surrogates, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def unit_rows(values: np.ndarray[Any, Any], rows: int, name: str) -> Vectors:
    """Return `values` as unit vectors; raise `EncoderError` unless `(rows, d)` and finite."""
    if values.ndim != 2 or values.shape[0] != rows or values.shape[1] == 0:
        raise EncoderError(
            f"encoder {name!r} gave an array of shape {values.shape} for {rows} texts; "
            f"it must be ({rows}, dimension)"
        )
    vectors: Vectors = values.astype(np.float32)
    if not np.isfinite(vectors).all():
        raise EncoderError(f"encoder {name!r} gave values that are not finite; use another model")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.where(lengths > 0, lengths, 1.0)
    return vectors


def _means(vectors: Vectors, lengths: Sequence[Sequence[int]]) -> Vectors:
    rows, at = [], 0
    for of_text in lengths:
        share = np.asarray(of_text, np.float32)
        rows.append(share @ vectors[at : at + len(of_text)])
        at += len(of_text)
    return unit_rows(np.stack(rows), len(lengths), "mean of pieces")


async def _in_thread(work: Callable[[], _T]) -> _T:
    try:
        limiter = _LIMITER.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(1)
        _LIMITER.set(limiter)
    return await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=limiter)
