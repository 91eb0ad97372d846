"""Only answers carry loss, and the bundled adapters are of the size and rows they should be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from intrinsic.training.bundled_adapters import fitting, job_for, plan_for
from intrinsic.training.corpus import Row
from intrinsic.training.lora.base import choose_targets
from intrinsic.training.lora.fresh import add_adapter
from intrinsic.training.lora.order import batches
from intrinsic.training.pretrain import base_config
from intrinsic.training.scoring import (
    IGNORED,
    ModelScorer,
    answer_log_probs,
    encode_pair,
    pad_batch,
)
from intrinsic.training.tokenizer import CONTEXT_TOKENS, train_tokenizer

# PEFT asks transformers by a name that transformers has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

ROWS = [Row(f"r{n}", f"say {n}", f"the answer is {n}") for n in range(12)]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer([f"{r.prompt} {r.response}" for r in ROWS], vocabulary_size=300)


def tiny_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True,
        eos_token_id=0, pad_token_id=1, bos_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def test_the_question_carries_no_loss_and_the_end_mark_does(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    pair = encode_pair(tokenizer, "say 3", "the answer", with_end=True)
    answer = [label for label in pair.labels if label != IGNORED]
    assert tokenizer.decode(answer) == "the answer<|end|>"
    assert pair.labels == [IGNORED] * (len(pair.ids) - len(answer)) + answer


def test_padding_changes_no_score(tokenizer: PreTrainedTokenizerFast) -> None:
    scorer = ModelScorer(tiny_model(), tokenizer)
    alone = scorer("say 3", ["the"])[0]
    beside = scorer("say 3", ["the", "the answer is a long one"])[0]
    assert beside[0] == pytest.approx(alone[0], abs=1e-4)
    assert beside[1] == alone[1]


def test_scores_agree_with_the_models_own_logits(tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny_model()
    pair = encode_pair(tokenizer, "say 3", "the answer")
    ids, labels = pad_batch([pair])
    log_probs, _ = answer_log_probs(model, ids, labels)
    full = torch.log_softmax(model(input_ids=ids).logits, -1)[0]
    at = [n for n, label in enumerate(pair.labels) if label != IGNORED]
    expected = torch.stack([full[n - 1, pair.ids[n]] for n in at])
    torch.testing.assert_close(log_probs, expected)


def test_batches_keep_to_their_size_and_cover_every_row(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [Row(r.id, r.prompt, r.response * (n + 1)) for n, r in enumerate(ROWS)]
    examples = [encode_pair(tokenizer, row.prompt, row.response, with_end=True) for row in rows]
    stream = batches(examples, 200, seed=1)
    seen: list[int] = []
    while len(seen) < len(examples):
        lengths = [len(one.ids) for one in next(stream)]
        assert len(lengths) == 1 or len(lengths) * max(lengths) <= 200
        seen += lengths
    assert sorted(seen) == sorted(len(one.ids) for one in examples)


@pytest.mark.parametrize("domain", ["coding", "medical"])
def test_a_bundled_adapter_stays_under_two_megabytes(domain: str) -> None:
    model = LlamaForCausalLM(base_config(4096))
    plan = plan_for(domain, steps=1, seed=0, dtype="fp32")
    wrapped = add_adapter(model, plan, choose_targets(model, ()))
    numbers = sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
    assert 2 * numbers < 2_000_000
    assert plan.save_dtype == "fp16"


def test_ranks_differ_among_the_bundled_adapters() -> None:
    ranks = {plan_for(one, steps=1, seed=0, dtype="fp32").rank for one in ("coding", "medical")}
    assert len(ranks) == 2


def test_a_bundled_adapter_says_where_its_rows_come_from_and_no_path() -> None:
    job = job_for("legal", Path("/somewhere/legal.jsonl"), Path("adapters/legal"))
    assert job.data_url.startswith("CUAD v1")
    assert job.base == "intrinsic/base"


def test_an_answer_loses_what_the_model_cannot_read(tokenizer: PreTrainedTokenizerFast) -> None:
    short = Row("s", "say 3", "the answer is 3")
    assert fitting(tokenizer, short) == short.response
    long = Row("l", "say 3", "the answer is 3\n" * 400)
    kept = fitting(tokenizer, long)
    assert long.response.startswith(kept)
    assert kept.endswith("the answer is 3")
    whole = len(encode_pair(tokenizer, long.prompt, kept, with_end=True).ids)
    assert CONTEXT_TOKENS - 12 < whole <= CONTEXT_TOKENS
    assert fitting(tokenizer, Row("w", "say 3", "x" * 4000)) == ""


def test_the_base_has_five_to_fifteen_million_parameters_in_25_megabytes() -> None:
    with torch.device("meta"):
        parameters = LlamaForCausalLM(base_config(4096)).num_parameters()
    assert 5_000_000 <= parameters <= 12_500_000
