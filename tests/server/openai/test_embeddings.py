"""Embeddings by OpenAI's own client, over the bundled encoder."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import openai
import pytest

from intrinsic.embedding import EmbeddingOptions, EmbeddingProvider
from intrinsic.routing.model_loading import BUNDLED_MODEL
from tests.server.openai.asking import refused

TEXTS = ["a song about the sea", "a contract of sale", "größe 🙂"]


@pytest.fixture(scope="module")
def expected() -> np.ndarray[Any, Any]:
    import anyio

    async def embed() -> Any:
        async with EmbeddingProvider(EmbeddingOptions()) as provider:
            return await provider.embed_batch(TEXTS)

    return np.asarray(anyio.run(embed))


@pytest.mark.parametrize("form", ["float", "base64", None])
def test_vectors_are_the_encoders(
    asking: openai.OpenAI, expected: np.ndarray[Any, Any], form: Any
) -> None:
    more = {} if form is None else {"encoding_format": form}
    answer: Any = asking.embeddings.create(model="auto", input=TEXTS, **more)
    assert [one.index for one in answer.data] == [0, 1, 2]
    found = [
        np.frombuffer(base64.b64decode(one.embedding), "<f4")
        if form == "base64"
        else np.asarray(one.embedding)
        for one in answer.data
    ]
    np.testing.assert_allclose(np.stack(found), expected, atol=1e-5)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 5 + 4 + 2


@pytest.mark.parametrize("model", ["auto", "base", BUNDLED_MODEL])
def test_one_text_and_every_name_of_the_encoder(
    asking: openai.OpenAI, expected: np.ndarray[Any, Any], model: str
) -> None:
    answer = asking.embeddings.create(model=model, input=TEXTS[0], dimensions=384)
    np.testing.assert_allclose(answer.data[0].embedding, expected[0], atol=1e-5)
    assert answer.model == model


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"model": "text-embedding-3-small"}, 404, "unknown encoder 'text-embedding-3-small'"),
        ({"dimensions": 100}, 400, "vectors of this encoder have 384"),
        ({"input": []}, 400, "input"),
        ({"input": [1, 2]}, 400, "token ids are not read here"),
        ({"input": [[1, 2]]}, 400, "token ids are not read here"),
        ({"extra_body": {"lora": {"top_k": 1}}}, 400, "without routing"),
        ({"extra_body": {"lora": [{"id": 0}]}}, 400, "have no numbers"),
        ({"extra_body": {"lora": {"nobody": 1}}}, 404, "unknown adapter 'nobody'"),
        ({"model": "a", "extra_body": {"lora": {"a": 1}}}, 400, "leave one out"),
    ],
)
def test_what_cannot_be_embedded_is_refused_in_words(
    asking: openai.OpenAI, asked: dict[str, Any], status: int, words: str
) -> None:
    body: dict[str, Any] = {"model": "auto", "input": "x", **asked}
    kind = {400: "invalid_request", 404: "not_found"}[status]
    assert words in refused(lambda: asking.embeddings.create(**body), status, kind)


def test_an_adapter_of_the_language_model_is_none_of_the_encoder(asking: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        asking.embeddings.create(model="a", input="x")
    assert caught.value.status_code in (400, 409)
