"""As many adapters as wanted: the 150 intents of CLINC150, then variations of them.

A variation of an intent has texts of its own: those of the intent with every third word, but at
least one, replaced by a word drawn from all training queries as often as it stands there, so that
words are as rare and as common as in real text. The vector of such a text is that of the original
plus a random direction of 0.75 its length, made a unit vector: a cosine of 0.8 to the original.
"""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np

from benchmarks._routing_data import Clinc, own_texts
from benchmarks._routing_vectors import Known
from intrinsic.card import AdapterCard

NOISE = 0.75
_EVERY = 3


def scaled(
    data: Clinc, known: Known, count: int, seed: int, *, examples: int = 10
) -> list[AdapterCard]:
    """`count` adapters with `examples` each; their vectors are made and become known."""
    real = data.registry("intent", examples, seed)
    cards = list(real[:count])
    if count > len(real):
        words = [word for row in data.train for word in row.text.split()]
        variation = _Variation(known, words, seed)
        cards += [variation.of(real[n % len(real)], n) for n in range(len(real), count)]
    return cards


class _Variation:
    def __init__(self, known: Known, words: list[str], seed: int) -> None:
        self._known = known
        self._words = words
        self._rng = random.Random(seed)
        self._noise = np.random.default_rng(seed)

    def of(self, card: AdapterCard, number: int) -> AdapterCard:
        varied = replace(
            card,
            name=f"{card.name}_{number}",
            domain=self._new(card.domain),
            description=self._new(card.description),
            examples=tuple(self._new(text) for text in card.examples),
        )
        texts = (*own_texts(varied), *varied.examples)
        vectors = np.stack(self._known((*own_texts(card), *card.examples)))
        noise = self._noise.standard_normal(vectors.shape, np.float32)
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        vectors = vectors + np.float32(NOISE) * noise
        self._known.add(texts, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
        return varied

    def _new(self, text: str) -> str:
        """A text that is nobody's yet."""
        while (varied := self._text(text)) in self._known:
            text = f"{text} {self._rng.choice(self._words)}"
        return varied

    def _text(self, text: str) -> str:
        words = text.split()
        for at in self._rng.sample(range(len(words)), max(1, len(words) // _EVERY)):
            words[at] = self._rng.choice(self._words)
        return " ".join(words)
