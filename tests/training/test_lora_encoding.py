"""The prompt is what a backend would ask, the answer carries the loss, and truncation spares it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from intrinsic.backends.prompt_encoder import PromptEncoder
from intrinsic.errors import ConfigError
from intrinsic.training.lora.encoding import RowEncoder
from intrinsic.training.lora.order import one_pass, passes
from intrinsic.training.lora.rows import TrainingRow
from intrinsic.training.lora.scores import answer_logits, score
from intrinsic.training.scoring import IGNORED, Encoded, pad_batch
from tests.tiny import llama, tokenizer

END = 2
MARKED = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] | trim }}</s>\n{% endfor %}"
GENERATING = MARKED + "{% if add_generation_prompt %}<assistant>{% endif %}"


def row(prompt: str, response: str, line: int = 1) -> TrainingRow:
    return TrainingRow(line, ({"role": "user", "content": prompt},), response)


def learned(encoded: Encoded) -> list[int]:
    return [label for label in encoded.labels if label != IGNORED]


def asked(encoded: Encoded) -> list[int]:
    count = len(encoded.ids) - len(learned(encoded))
    assert encoded.labels == [IGNORED] * count + encoded.ids[count:]
    return encoded.ids[:count]


@pytest.mark.parametrize("chat", [False, True])
def test_the_prompt_is_as_a_backend_asks_it_and_the_answer_ends(chat: bool) -> None:
    words = tokenizer(chat=chat)
    encoded = RowEncoder(words, 64, [END]).encode(row("how?", "so"))
    assert asked(encoded) == PromptEncoder(words, 64).prompt_ids("how?")
    assert words.decode(learned(encoded)) == "so</s>"


def test_an_answer_is_framed_by_the_template_up_to_its_end_mark() -> None:
    words = tokenizer()
    words.chat_template = GENERATING
    encoded = RowEncoder(words, 64, [END]).encode(row("how?", " so "))
    assert words.decode(asked(encoded)).endswith("<assistant>")
    assert words.decode(learned(encoded)) == "so</s>"


def test_a_template_that_rewrites_the_prompt_leaves_the_answer_bare() -> None:
    words = tokenizer()
    words.chat_template = "{{ messages | length }}" + MARKED
    encoded = RowEncoder(words, 64, [END]).encode(row("how?", "so"))
    assert words.decode(learned(encoded)) == "so</s>"


def test_of_a_conversation_the_last_answer_alone_is_learned() -> None:
    words = tokenizer(chat=True)
    turns = ("user", "hi"), ("assistant", "hey"), ("user", "who?")
    one = TrainingRow(1, tuple({"role": r, "content": c} for r, c in turns), "me")
    encoded = RowEncoder(words, 64, [END]).encode(one)
    assert words.decode(asked(encoded)) == "[user]hi[assistant]hey[user]who?[assistant]"
    assert words.decode(learned(encoded)) == "me</s>"


def test_a_long_prompt_loses_its_beginning_and_the_answer_nothing() -> None:
    words = tokenizer()
    encoder = RowEncoder(words, 8, [END])
    encoded = encoder.encode(row("0123456789", "abc"))
    assert words.decode(encoded.ids) == "6789abc</s>"
    assert words.decode(learned(encoded)) == "abc</s>"
    assert encoder.shortened == 1
    encoder.encode(row("0123", "abc"))
    assert encoder.shortened == 1


def test_a_begin_mark_stays() -> None:
    words = tokenizer()
    words.chat_template = "<s>" + GENERATING
    encoded = RowEncoder(words, 8, [END]).encode(row("how?", "abc"))
    assert words.decode(encoded.ids) == "<s>nt>abc</s>"
    assert len(encoded.ids) == 8


def test_answers_that_do_not_fit_are_named_by_line() -> None:
    encoder = RowEncoder(tokenizer(), 8, [END])
    rows = [row("a", "12345678", 9), row("a", "123456", 5), row("a", "1234567", 3)]
    with pytest.raises(ConfigError) as refused:
        encoder.encode_all(Path("rows.jsonl"), rows)
    head, *lines = str(refused.value).split("\n")
    assert "2 broken rows" in head
    assert [line[: len("  line 3: the answer alone has 8")] for line in lines] == [
        "  line 3: the answer alone has 8",
        "  line 9: the answer alone has 9",
    ]


def test_turns_that_the_template_refuses_are_named_by_line() -> None:
    words = tokenizer()
    words.chat_template = "{{ raise_exception('no turns of ' + messages[0]['role']) }}"
    with pytest.raises(ConfigError, match="line 4: the model's chat template refuses"):
        RowEncoder(words, 64, [END]).encode_all(Path("rows.jsonl"), [row("a", "b", 4)])


@pytest.fixture
def encoded() -> list[Encoded]:
    words: PreTrainedTokenizerBase = tokenizer()
    encoder = RowEncoder(words, 64, [END])
    return [encoder.encode(row("p" * n, "a" * (1 + n % 7))) for n in range(1, 40)]


@torch.inference_mode()
def test_scores_are_those_of_the_models_own_logits_row_by_row(encoded: list[Encoded]) -> None:
    model = llama()
    found = score(model, one_pass(encoded, 200), torch.float32, "cpu")
    losses, right = [], []
    for one in encoded:
        logits = model(input_ids=torch.tensor([one.ids])).logits[0]
        for at, label in enumerate(one.labels):
            if label != IGNORED:
                losses.append(float(-torch.log_softmax(logits[at - 1], -1)[label]))
                right.append(int(logits[at - 1].argmax()) == label)
    assert found.loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert found.token_accuracy == sum(right) / len(right)
    assert (found.tokens, found.rows) == (len(losses), len(encoded))
    assert found.perplexity == pytest.approx(2.718281828**found.loss)


@torch.inference_mode()
def test_the_head_is_run_from_the_first_answer_token_on(encoded: list[Encoded]) -> None:
    model = llama()
    ids, labels = pad_batch(encoded[-5:])
    computed: list[int] = []
    model.lm_head.register_forward_hook(lambda _, __, out: computed.append(out.shape[1]))
    logits, targets = answer_logits(model, ids, labels, torch.float32)
    assert targets.tolist() == [label for one in encoded[-5:] for label in learned(one)]
    whole = model(input_ids=ids).logits
    assert computed == [ids.shape[1] - 34, ids.shape[1]]  # 35 tokens of the shortest prompt
    torch.testing.assert_close(logits, whole[:, :-1][labels[:, 1:] != IGNORED])


def test_every_epoch_has_every_row_once_in_an_order_of_its_own(encoded: list[Encoded]) -> None:
    every = passes(encoded, 200, seed=1, epochs=3)
    seen = [one for batch in every for one in batch]
    epochs = [seen[at : at + len(encoded)] for at in range(0, len(seen), len(encoded))]
    assert len(epochs) == 3
    for epoch in epochs:
        assert sorted(map(id, epoch)) == sorted(map(id, encoded))
    assert len({tuple(map(id, epoch)) for epoch in epochs}) == 3
    assert every == passes(encoded, 200, seed=1, epochs=3)
