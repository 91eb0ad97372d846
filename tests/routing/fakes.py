"""Small encoders and cards for the tests of routing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import anyio
import numpy as np

from intrinsic.card import AdapterCard
from intrinsic.routing import Vectors
from intrinsic.routing.text import stems

CARDS = (
    AdapterCard(
        "medical",
        domain="medicine",
        description="Answers questions about diseases, symptoms, pain and treatments",
        keywords=("doctor", "disease", "pain", "symptom"),
        examples=(
            "what are the symptoms of diabetes",
            "how is asthma treated",
            "why does my back hurt in the morning",
            "what causes chest pain and should I see a doctor",
        ),
    ),
    AdapterCard(
        "legal",
        domain="law",
        description="Explains and drafts clauses of contracts and agreements",
        keywords=("contract", "clause", "law", "court"),
        examples=(
            "draft a confidentiality clause for a contract",
            "which law governs this agreement",
            "what does the termination clause say",
            "who is liable under the contract",
        ),
    ),
    AdapterCard(
        "coding",
        domain="programming",
        description="Writes Python functions from a description",
        keywords=("python", "function", "code", "class"),
        examples=(
            "write a python function that sorts a list",
            "write code to check whether a number is prime",
            "implement a class for a stack",
            "count the words in a string with python",
        ),
    ),
    AdapterCard(
        "creative",
        domain="fiction",
        description="Tells and continues stories, fairy tales, fables and plays",
        keywords=("story", "tale", "fable", "play"),
        examples=(
            "tell me a story about a dragon",
            "continue the fairy tale of the three brothers",
            "write a scene between a king and his fool",
            "make up a fable with a moral",
        ),
    ),
    AdapterCard(
        "math",
        domain="mathematics",
        description="Solves arithmetic word problems step by step",
        keywords=("how many", "total", "percent", "calculate"),
        examples=(
            "tom has 12 apples and gives away 5, how many are left",
            "a train travels 60 miles in 2 hours, how fast is it",
            "what is 15 percent of 80",
            "each box holds 6 eggs, how many boxes for 48 eggs",
        ),
    ),
    AdapterCard(
        "cooking",
        domain="cooking",
        description="Gives recipes: ingredients and how to prepare a dish",
        keywords=("recipe", "ingredients", "bake", "cook"),
        examples=(
            "how do I make pancakes",
            "what ingredients do I need for lasagna",
            "recipe for chicken curry",
            "how long does bread bake in the oven",
        ),
    ),
)


class BagEmbedder:
    """Texts that share stems point the same way; counts what it was asked."""

    def __init__(self, dimension: int = 4096) -> None:
        self._dimension = dimension
        self.asked: list[str] = []

    @property
    def dimension(self) -> int:
        return self._dimension

    async def embed(self, texts: Sequence[str]) -> Vectors:
        await anyio.lowlevel.checkpoint()
        self.asked.extend(texts)
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> Vectors:
        vector = np.zeros(self._dimension, np.float32)
        for stem in stems(text) or [text]:
            digest = hashlib.blake2b(stem.encode("utf-8", "replace"), digest_size=4).digest()
            vector[int.from_bytes(digest, "big") % self._dimension] += 1.0
        return vector


class FaultyEmbedder(BagEmbedder):
    """Does what `fault` says instead of answering: an error, an array, or "hang"; "" answers."""

    def __init__(self, fault: object) -> None:
        super().__init__()
        self.fault = fault
        self.calls = 0

    async def embed(self, texts: Sequence[str]) -> Vectors:
        self.calls += 1
        if isinstance(self.fault, Exception):
            raise self.fault
        if isinstance(self.fault, np.ndarray):
            return self.fault
        if self.fault == "hang":
            await anyio.sleep_forever()
        return await super().embed(texts)


class Clock:
    """A clock that stands still until told."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s
