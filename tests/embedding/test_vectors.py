"""Vectors are those of the slow way: sentence-transformers, or one text at a time under PEFT."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from intrinsic.embedding import EmbeddingOptions, EmbeddingProvider, InstructionForms
from intrinsic.errors import ConfigError, EncoderError
from intrinsic.routing.router import Vectors
from tests.bus.backends import both_backends
from tests.embedding import small
from tests.embedding.small import TEXTS, by_transformers, cosines, same, unit

FULL = [text for text in TEXTS if text]


async def embedded(texts: list[str], *instruction: str, **options: Any) -> Vectors:
    async with EmbeddingProvider(EmbeddingOptions(**options)) as provider:
        return await provider.embed_batch(texts, *instruction)


@pytest.mark.parametrize(
    ("pooling", "side"), list(product(("mean", "cls", "last"), ("left", "right")))
)
@both_backends
async def test_a_plain_encoder_with_an_adapter_is_what_peft_gives(
    pooling: str, side: str, model: Path, lora: Path
) -> None:
    found = await embedded(
        FULL, model=model, pooling=pooling, padding_side=side, lora_adapter_path=lora
    )
    assert same(found, by_transformers(model, FULL, pooling=pooling, lora=lora))
    assert not same(found, by_transformers(model, FULL, pooling=pooling))


@pytest.mark.parametrize("side", ["left", "right"])
@both_backends
async def test_a_decoder_pools_its_last_token_on_either_side(side: str, tmp_path: Path) -> None:
    model = small.decoder(tmp_path / "decoder")
    found = await embedded(FULL, model=model, pooling="last", padding_side=side)
    assert same(found, by_transformers(model, FULL, pooling="last"))


@both_backends
async def test_the_bundled_encoder_is_what_sentence_transformers_gives() -> None:
    from intrinsic.routing.model_loading import bundled_model

    rival = SentenceTransformer(str(bundled_model()), device="cpu").encode(FULL)
    found = await embedded(FULL)
    assert found.dtype == np.float32
    assert found.shape == (len(FULL), 384)
    np.testing.assert_allclose(found, rival, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
@both_backends
async def test_a_sentence_transformers_folder_keeps_its_own_pooling(
    pooling: str, tmp_path: Path
) -> None:
    model = small.sentence_bert(tmp_path / "st", pooling)
    rival = SentenceTransformer(str(model), device="cpu").encode(FULL)
    np.testing.assert_allclose(await embedded(FULL, model=model), rival, atol=1e-5)


@both_backends
async def test_another_pooling_takes_the_place_of_the_models_own(tmp_path: Path) -> None:
    model = small.sentence_bert(tmp_path / "st", "mean")
    plain = small.bert(tmp_path / "plain")
    found = await embedded(FULL, model=model, pooling="cls")
    assert same(found, by_transformers(plain, FULL, pooling="cls"))


@both_backends
async def test_the_order_is_that_of_the_texts_whatever_their_lengths(model: Path) -> None:
    texts = [chr(97 + n % 26) * (1 + (n * 7) % 40) + str(n) for n in range(150)]
    async with EmbeddingProvider(
        EmbeddingOptions(model=model, batch_size=4, batch_tokens=64)
    ) as provider:
        together = await provider.embed_batch(texts)
        for at in (0, 1, 77, 149):
            np.testing.assert_allclose(
                together[at], await provider.embed_text(texts[at]), atol=1e-5
            )


@both_backends
async def test_a_long_text_is_the_mean_of_its_windows(model: Path) -> None:
    pieces = ["a" * small.LIMIT, "b" * small.LIMIT, "c" * 10]
    vectors = unit(by_transformers(model, pieces))
    lengths = np.asarray([[len(piece) + 1] for piece in pieces], np.float32)
    expected = np.sum(vectors * lengths, axis=0, keepdims=True)
    assert same(await embedded(["".join(pieces)], model=model), expected)


@both_backends
async def test_a_long_text_of_unnormalised_windows_keeps_their_length(model: Path) -> None:
    pieces = ["a" * small.LIMIT, "b" * small.LIMIT]
    expected = by_transformers(model, pieces).mean(axis=0, keepdims=True)
    found = await embedded(["".join(pieces)], model=model, normalize=False)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@both_backends
async def test_a_shorter_limit_makes_more_windows(model: Path) -> None:
    text = "abcdefghijklmnop"
    vectors = unit(by_transformers(model, [text[:8], text[8:]]))
    found = await embedded([text], model=model, max_length=8)
    assert same(found, vectors.mean(axis=0, keepdims=True))


@both_backends
async def test_a_limit_beyond_the_models_own_is_refused(model: Path) -> None:
    with pytest.raises(ConfigError, match=f"max_length is 512; .* reads at most {small.LIMIT}"):
        await embedded(["x"], model=model, max_length=512)


@both_backends
async def test_without_normalising_vectors_keep_their_length_but_not_for_routers(
    model: Path,
) -> None:
    async with EmbeddingProvider(EmbeddingOptions(model=model, normalize=False)) as provider:
        raw = by_transformers(model, FULL)
        np.testing.assert_allclose(await provider.embed_batch(FULL), raw, atol=1e-4)
        np.testing.assert_allclose(await provider.embed(FULL), unit(raw), atol=1e-5)


@both_backends
async def test_instructions_stand_before_the_text(model: Path) -> None:
    options = EmbeddingOptions(
        model=model, instructions={"search": InstructionForms("q: ", "p: ")}, task="search"
    )
    async with EmbeddingProvider(options) as provider:
        assert same(await provider.embed(FULL), by_transformers(model, [f"q: {t}" for t in FULL]))
        cards = await provider.embed_cards(FULL)
        assert same(cards, by_transformers(model, [f"p: {t}" for t in FULL]))
        literal = await provider.embed_batch(FULL, "see: ")
        assert same(literal, by_transformers(model, [f"see: {t}" for t in FULL]))
        passage = await provider.embed_text(FULL[0], "search", form="passage")
        np.testing.assert_allclose(passage, cards[0], atol=1e-6)
        with pytest.raises(ConfigError, match="unknown task 'sarch'; did you mean 'search'"):
            await provider.embed_text("x", "sarch")


@both_backends
async def test_a_models_own_default_prompt_stands_before_texts_without_an_instruction(
    tmp_path: Path,
) -> None:
    model = small.sentence_bert(tmp_path / "st")
    made = SentenceTransformer(str(model), device="cpu", prompts={"search": "q: "})
    made.default_prompt_name = "search"
    made.save(str(model))
    rival = SentenceTransformer(str(model), device="cpu")
    assert rival.default_prompt_name == "search"
    np.testing.assert_allclose(await embedded(FULL, model=model), rival.encode(FULL), atol=1e-5)
    bare = rival.encode(FULL, prompt="")
    np.testing.assert_allclose(await embedded(FULL, "", model=model), bare, atol=1e-5)
    literal = rival.encode(FULL, prompt="see: ")
    np.testing.assert_allclose(await embedded(FULL, "see: ", model=model), literal, atol=1e-5)


@both_backends
async def test_every_window_has_the_instruction(model: Path) -> None:
    room = small.LIMIT - 3
    pieces = ["q: " + "a" * room, "q: " + "b" * room]
    expected = unit(by_transformers(model, pieces)).mean(axis=0, keepdims=True)
    assert same(await embedded(["a" * room + "b" * room], "q: ", model=model), expected)


@both_backends
async def test_an_instruction_without_room_for_a_text_is_refused(model: Path) -> None:
    with pytest.raises(EncoderError, match="leaves no room for a text in the 48 tokens"):
        await embedded(["a" * 60], "q: " * 20, model=model)


@both_backends
async def test_a_pooling_that_leaves_the_instruction_out_does(tmp_path: Path) -> None:
    model = small.sentence_bert(tmp_path / "st")
    path = model / "1_Pooling" / "config.json"
    path.write_text(path.read_text().replace('"include_prompt": true', '"include_prompt": false'))
    rival = SentenceTransformer(str(model), device="cpu")
    assert not rival[1].include_prompt
    expected = rival.encode(FULL, prompt="see: ")
    np.testing.assert_allclose(await embedded(FULL, "see: ", model=model), expected, atol=1e-5)


@both_backends
async def test_nothing_and_empty_texts_have_vectors_too(model: Path) -> None:
    async with EmbeddingProvider(EmbeddingOptions(model=model)) as provider:
        assert (await provider.embed_batch([])).shape == (0, small.WIDTH)
        assert np.isfinite(await provider.embed_text("")).all()
        assert np.isfinite(await provider.embed_text("\ud800 lone")).all()
        with pytest.raises(EncoderError, match="takes a list of texts; use embed_text for one"):
            await provider.embed_batch("one")
        with pytest.raises(EncoderError, match="text 1 is None; it must be a string"):
            await provider.embed_batch(["one", None])  # type: ignore[list-item]
        with pytest.raises(EncoderError, match="an iterable of texts; use embed_text for one"):
            await anext(provider.embed_stream("one"))


@both_backends
async def test_a_text_that_gives_no_finite_vector_harms_no_other(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from intrinsic.embedding.encoder import TextEncoder

    plain = TextEncoder.vectors

    def broken(self: TextEncoder, pieces: Any) -> Vectors:
        found = plain(self, pieces)
        found[[len(piece.ids) == 3 for piece in pieces]] = np.nan
        return found

    monkeypatch.setattr(TextEncoder, "vectors", broken)
    async with EmbeddingProvider(EmbeddingOptions(model=model)) as provider:
        with pytest.raises(EncoderError, match="values that are not finite"):
            await provider.embed_batch(["abc", "abcd"])
        assert cosines(await provider.embed_batch(["abcd"]), by_transformers(model, ["abcd"]))
