"""The bytes of single tokens, for every way in which tokenizers write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from intrinsic import base_path
from intrinsic.backends.token_texts import TokenTexts
from tests.tiny import tokenizer

BYTE_LEVEL = AutoTokenizer.from_pretrained(base_path())


@given(st.text(max_size=30))
def test_the_bytes_of_byte_level_tokens_join_to_the_text(text: str) -> None:
    ids = BYTE_LEVEL(text, add_special_tokens=False)["input_ids"]
    texts = TokenTexts(BYTE_LEVEL)
    assert b"".join(texts.bytes_of(token) for token in ids) == text.encode()


def test_special_tokens_have_their_names() -> None:
    texts = TokenTexts(BYTE_LEVEL)
    assert texts.text_of(BYTE_LEVEL.eos_token_id) == BYTE_LEVEL.eos_token
    assert texts.bytes_of(len(BYTE_LEVEL) + 5) == b""


def sentencepiece() -> PreTrainedTokenizerFast:
    words = ["<unk>", "▁he", "llo", "▁you", "<0xF0>", "<0x9F>", "<0x99>", "<0x82>"]
    core = Tokenizer(
        models.BPE({word: place for place, word in enumerate(words)}, [], byte_fallback=True)
    )
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")


@pytest.mark.parametrize("token", range(1, 8))
def test_marked_spaces_and_single_bytes_are_understood(token: int) -> None:
    texts = TokenTexts(sentencepiece())
    expected = [b" he", b"llo", b" you", b"\xf0", b"\x9f", b"\x99", b"\x82"]
    assert texts.bytes_of(token) == expected[token - 1]
    assert texts.text_of(4) == "\N{REPLACEMENT CHARACTER}"


def test_any_other_token_is_what_the_tokenizer_decodes() -> None:
    texts = TokenTexts(tokenizer())
    assert [texts.text_of(token) for token in (3, 68, 96)] == [" ", "a", "}"]
