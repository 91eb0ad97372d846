"""Query texts to the vectors that a hypernetwork reads."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from functools import lru_cache, partial
from typing import Protocol, TypeVar

import anyio
import numpy as np
from numpy.typing import NDArray

from intrinsic.errors import ConfigError
from intrinsic.routing.encoder import EncoderOptions, SentenceEncoder
from intrinsic.routing.model_loading import BUNDLED_MODEL
from intrinsic.routing.text import stem, words

Embeddings = NDArray[np.float32]
_T = TypeVar("_T")

HASHED = "hashed-words"
STEMMED = "hashed-stems"
BUNDLED = "bundled"
_AT_ONCE = 256
_WORD = re.compile(r"\w+")


class TextEncoder(Protocol):
    """What makes vectors of texts; it blocks, so call it in a worker thread from async code."""

    @property
    def name(self) -> str:
        """What `encoder_named` makes it from again."""
        ...

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    def encode(self, texts: Sequence[str]) -> Embeddings:
        """Return one vector per text, `(texts, dimension)`."""
        ...


class HashedWords:
    """Each word is a fixed vector of random signs; a text is their sum, of length 1.

    It knows no meaning: texts are near one another as far as they share words. The signs are the
    bits of SHAKE-256 over seed and word. A text without words is the zero vector.
    """

    kind = HASHED

    def __init__(self, dimension: int = 1024, seed: int = 0) -> None:
        if dimension < 8:
            raise ConfigError(f"the encoder's dimension is {dimension}; it must be at least 8")
        self.dimension = dimension
        self.seed = seed

    @property
    def name(self) -> str:
        """Kind, dimension and seed."""
        return f"{self.kind}:{self.dimension}:{self.seed}"

    def encode(self, texts: Sequence[str]) -> Embeddings:
        """Return one vector per text, of length 1 or 0."""
        found = np.zeros((len(texts), self.dimension), np.float32)
        for row, text in zip(found, texts, strict=True):
            for word in self._words(text):
                row += _signs(word, self.dimension, self.seed)
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        unit: Embeddings = found / np.maximum(lengths, np.float32(1e-12))
        return unit

    def _words(self, text: str) -> list[str]:
        return _WORD.findall(text.casefold())


class HashedStems(HashedWords):
    """As `HashedWords`, of the stems of words, as keyword routing reads them."""

    kind = STEMMED

    def _words(self, text: str) -> list[str]:
        return [stem(word) for word in words(text)]


class SentenceTexts:
    """A sentence-transformers model by hub name or folder; without one the bundled MiniLM.

    It runs in torch always: the router's int8 form gives other vectors, and a hypernetwork is
    bound to those that it was trained on. Raises `EncoderError` as `SentenceEncoder` does.
    """

    def __init__(self, model: str | None = None) -> None:
        given = None if model in (None, BUNDLED, BUNDLED_MODEL) else model
        self._encoder = SentenceEncoder(
            given, options=EncoderOptions(runtime="torch", cache_dir=None, middle_layer=0.0)
        )

    @property
    def name(self) -> str:
        """The model's name or path."""
        return self._encoder.name

    @property
    def dimension(self) -> int:
        """Length of a vector; a model that the user named is loaded for it."""
        if self.name != BUNDLED_MODEL:
            _run(self._encoder.warm_up)
        return self._encoder.dimension

    def encode(self, texts: Sequence[str]) -> Embeddings:
        """Return one unit vector per text."""
        parts = [texts[at : at + _AT_ONCE] for at in range(0, len(texts), _AT_ONCE)]
        if not parts:
            return np.zeros((0, self.dimension), np.float32)
        found = [_run(partial(self._encoder.embed, part)) for part in parts]
        return np.concatenate(found).astype(np.float32)


def encoder_named(name: str) -> TextEncoder:
    """Make an encoder: `hashed-stems`, `hashed-words`, `bundled`, or a model's name.

    The hashed ones may have numbers: `hashed-stems:DIMENSION:SEED`. Raises `ConfigError` for a name
    that is none of these.
    """
    kind, *numbers = name.split(":")
    if kind not in (HASHED, STEMMED):
        if not name.strip():
            raise ConfigError(f"the encoder's name is empty; write {STEMMED}, {BUNDLED} or a model")
        return SentenceTexts(name)
    if len(numbers) > 2 or not all(number.isdecimal() for number in numbers):
        raise ConfigError(f"unknown encoder {name!r}; write {kind} or {kind}:DIMENSION:SEED")
    made = HashedWords if kind == HASHED else HashedStems
    return made(*map(int, numbers))


def _run(work: Callable[[], Awaitable[_T]]) -> _T:
    """Run it on an event loop of its own, also in a thread whose context is that of another."""
    return Context().run(anyio.run, work)


@lru_cache(maxsize=16384)
def _signs(word: str, dimension: int, seed: int) -> Embeddings:
    data = hashlib.shake_256(f"{seed}\0{word}".encode("utf-8", "replace"))
    bits = np.unpackbits(np.frombuffer(data.digest(-(-dimension // 8)), np.uint8))[:dimension]
    signs: Embeddings = (2 * bits.astype(np.float32) - 1) / np.float32(dimension**0.5)
    return signs
