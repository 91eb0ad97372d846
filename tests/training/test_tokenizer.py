"""The tokenizer loses nothing, and a prompt's ids do not depend on what follows."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from intrinsic.training.tokenizer import answer_ids, prompt_ids, save_tokenizer, train_tokenizer

TEXTS = ["def add(a, b):\n    return a + b\n", "The heart pumps blood.", "12 + 30 = 42"] * 20
CODE = "def f(x):\n\tif  x:\n        return  12 + 345\n\n\n    # two  spaces \n"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS, vocabulary_size=320)


@pytest.mark.parametrize("text", [CODE, "  lead and trail  ", "é–漢\U0001f600\r\n", "\n\n", ""])
def test_every_space_tab_and_newline_survives(
    tokenizer: PreTrainedTokenizerFast, text: str
) -> None:
    assert tokenizer.decode(answer_ids(tokenizer, text)) == text


def test_saved_and_loaded_by_auto_tokenizer_it_is_the_same(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    save_tokenizer(tokenizer, tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.encode(CODE) == tokenizer.encode(CODE)
    assert loaded.decode(loaded.encode(CODE)) == CODE
    assert (loaded.eos_token, loaded.pad_token) == ("<|end|>", "<|pad|>")


def test_chat_template_writes_the_same_ids_as_training(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [{"role": "user", "content": "add two\nnumbers"}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert tokenizer.encode(text) == prompt_ids(tokenizer, "add two\nnumbers")


def test_prompt_and_answer_meet_without_merging(tokenizer: PreTrainedTokenizerFast) -> None:
    together = tokenizer.encode("<|user|>Q \n<|assistant|>\n  A")
    assert together == prompt_ids(tokenizer, "Q \n") + answer_ids(tokenizer, "\n  A")


def test_digits_stand_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(answer_ids(tokenizer, "304")) == 3


def test_the_same_texts_give_the_same_vocabulary(tokenizer: PreTrainedTokenizerFast) -> None:
    assert train_tokenizer(TEXTS, vocabulary_size=320).get_vocab() == tokenizer.get_vocab()
