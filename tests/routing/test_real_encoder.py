"""The bundled encoder with the six domains, as they are used."""

from __future__ import annotations

from pathlib import Path

import anyio
import numpy as np
import pytest

from intrinsic.errors import EncoderError
from intrinsic.routing import HybridRouter, SentenceEncoder
from tests.bus.backends import both_backends
from tests.routing.fakes import CARDS


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    made = SentenceEncoder()
    anyio.run(made.warm_up)
    return made


@pytest.mark.parametrize(
    ("query", "adapter"),
    [
        ("my knee hurts when I climb stairs, what could it be?", "medical"),
        ("is this rash a symptom of something serious?", "medical"),
        ("What are the treatments for Marfan syndrome?", "medical"),
        ("what does a force majeure clause usually say?", "legal"),
        ("Quote a contract clause on Governing Law from a Supply Agreement.", "legal"),
        ("write a python function that reverses a list", "coding"),
        ("tell me a story about a fox", "creative"),
        ('Continue the fairy tale "The Golden Goose": ... and he went home.', "creative"),
        ("if I buy 3 apples for 2 dollars each, how much do I pay?", "math"),
        ("how do I bake bread", "cooking"),
    ],
)
@both_backends
async def test_questions_find_their_adapter(
    encoder: SentenceEncoder, query: str, adapter: str
) -> None:
    chosen = await HybridRouter(encoder).route(query, candidates=CARDS, top_k=2)
    assert [one.adapter for one in chosen] == [adapter]


@pytest.mark.parametrize(
    "query",
    [
        "book me a flight to Paris",
        "what's the weather",
        "turn on the lights",
        "play some jazz",
        "transfer 100 dollars to my savings account",
        "what a classic, flawless courtyard",
    ],
)
@both_backends
async def test_other_questions_find_none(encoder: SentenceEncoder, query: str) -> None:
    assert await HybridRouter(encoder).route(query, candidates=CARDS, top_k=2) == []


@both_backends
async def test_the_bundled_encoder_takes_any_text(encoder: SentenceEncoder) -> None:
    texts = ["", "\ud800 \x00", "日本語のテキスト", "the same", "the same", "word " * 2_000]
    vectors = await encoder.embed(texts)
    assert vectors.shape == (6, encoder.dimension) == (6, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(vectors[3], vectors[4])


@both_backends
async def test_the_end_of_a_long_text_counts(encoder: SentenceEncoder) -> None:
    filler = "the quick brown fox jumps over the lazy dog " * 30
    end = "What are the symptoms of diabetes? " * 30
    plain, with_end, ends = await encoder.embed([filler, filler + end, end])
    assert with_end @ ends > plain @ ends + 0.1


@both_backends
async def test_a_folder_without_a_model_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"could not be loaded.*or none for the bundled"):
        await SentenceEncoder(tmp_path).embed(["a"])
