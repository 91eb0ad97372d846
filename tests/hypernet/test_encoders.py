"""Texts to vectors: words that are shared, and the bundled sentence encoder."""

from __future__ import annotations

import numpy as np
import pytest

from intrinsic.errors import ConfigError, EncoderError
from intrinsic.hypernet.encoders import HashedWords, SentenceTexts, TextEncoder, encoder_named
from intrinsic.hypernet.nonsense import nonsense_queries


def test_texts_are_near_as_far_as_they_share_words() -> None:
    encoder = HashedWords(256)
    one, same, half, none = encoder.encode(
        ["sort the letters", "The LETTERS: sort!", "sort the words", "how is asthma treated"]
    )
    assert one.dtype == np.float32
    assert one.shape == (256,)
    assert float(one @ one) == pytest.approx(1, abs=1e-5)
    assert float(one @ same) == pytest.approx(1, abs=1e-5)
    assert 0.4 < float(one @ half) < 0.9
    assert abs(float(one @ none)) < 0.25


def test_vectors_are_fixed_by_dimension_and_seed() -> None:
    found = HashedWords(64).encode(["reverse it"])
    assert np.array_equal(found, HashedWords(64).encode(["reverse it"]))
    assert not np.array_equal(found, HashedWords(64, seed=1).encode(["reverse it"]))
    # so that a checkpoint of today can be asked tomorrow
    assert np.sign(HashedWords(8).encode(["a"])[0]).tolist() == SIGNS_OF_A


SIGNS_OF_A = [1.0, -1.0, 1.0, -1.0, 1.0, 1.0, 1.0, 1.0]


def test_a_text_without_words_is_nothing() -> None:
    assert not HashedWords(16).encode(["", " ?! "]).any()
    assert HashedWords(16).encode([]).shape == (0, 16)


@pytest.mark.parametrize("encoder", [HashedWords(), HashedWords(64, 3), SentenceTexts()])
def test_an_encoder_is_made_from_its_name_again(encoder: TextEncoder) -> None:
    again = encoder_named(encoder.name)
    assert type(again) is type(encoder)
    assert (again.name, again.dimension) == (encoder.name, encoder.dimension)


def test_names() -> None:
    assert encoder_named("hashed-words").name == "hashed-words:1024:0"
    assert encoder_named("hashed-stems").name == "hashed-stems:1024:0"
    assert encoder_named("hashed-stems:64").name == "hashed-stems:64:0"
    assert encoder_named("bundled").name == "all-MiniLM-L6-v2"
    for name in ("hashed-words:x", "hashed-words:1:2:3", "hashed-words:4", " "):
        with pytest.raises(ConfigError):
            encoder_named(name)
    with pytest.raises(EncoderError, match="/nowhere"):
        encoder_named("/nowhere").encode(["a"])


def test_the_bundled_encoder_knows_meaning() -> None:
    one, near, far = SentenceTexts().encode(["reverse the text", "write it backwards", "cheap tea"])
    assert one.shape == (384,)
    assert float(one @ near) > float(one @ far) + 0.2


def test_nonsense_is_fixed_by_its_seed_and_mostly_no_words() -> None:
    assert nonsense_queries(9, 1) == nonsense_queries(9, 1) != nonsense_queries(9, 2)
    assert sum("?" in text or "the" in text for text in nonsense_queries(300)) < 120
    assert len(set(nonsense_queries(300))) > 250


def test_stems_are_one_word_and_words_of_grammar_stay() -> None:
    encoder = encoder_named("hashed-stems:64")
    one, other, third = encoder.encode(["Rotate letters up", "rotated letter up", "rotate letters"])
    assert (one == other).all()
    assert (one != third).any()
