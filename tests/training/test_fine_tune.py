"""Only answers carry loss, and what is saved is what was trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from intrinsic.training.corpus import Row
from intrinsic.training.fine_tune import (
    FineTunePlan,
    add_lora,
    batches,
    fine_tune,
    make_examples,
    plan_for,
    save_adapter,
)
from intrinsic.training.pretrain import base_config
from intrinsic.training.scoring import (
    IGNORED,
    ModelScorer,
    answer_log_probs,
    encode_pair,
    pad_batch,
)
from intrinsic.training.tokenizer import train_tokenizer

# PEFT asks transformers by a name that transformers has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

ROWS = [Row(f"r{n}", f"say {n}", f"the answer is {n}") for n in range(12)]
PLAN = FineTunePlan(rank=4, steps=6, batch_tokens=64)


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
    examples = make_examples(tokenizer, rows, PLAN)
    stream = batches(examples, 200, seed=1)
    seen: list[int] = []
    while len(seen) < len(examples):
        lengths = [len(one.ids) for one in next(stream)]
        assert len(lengths) == 1 or len(lengths) * max(lengths) <= 200
        seen += lengths
    assert sorted(seen) == sorted(len(one.ids) for one in examples)


def test_a_twentieth_of_the_questions_is_left_empty(tokenizer: PreTrainedTokenizerFast) -> None:
    examples = make_examples(tokenizer, ROWS * 50, PLAN)
    empty = [one for one in examples if one.labels[1] == IGNORED and one.labels[2] >= 0]
    assert 0.03 < len(empty) / len(examples) < 0.08


def test_training_lowers_the_loss_and_leaves_the_base_alone(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    model = add_lora(tiny_model(), PLAN)
    before = {k: v.clone() for k, v in model.state_dict().items() if "lora_" not in k}
    first = fine_tune(model, tokenizer, ROWS, FineTunePlan(rank=4, steps=1, batch_tokens=64))
    later = fine_tune(model, tokenizer, ROWS, FineTunePlan(rank=4, steps=30, batch_tokens=64))
    assert later.loss < first.loss
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_bf16_products_train_as_well(tokenizer: PreTrainedTokenizerFast) -> None:
    plan = FineTunePlan(rank=4, steps=30, batch_tokens=64)
    model = add_lora(tiny_model(), plan)
    exact = fine_tune(model, tokenizer, ROWS, plan)
    rounded_model = add_lora(tiny_model(), plan)
    lines: list[str] = []
    rounded = fine_tune(
        rounded_model, tokenizer, ROWS, replace(plan, dtype=torch.bfloat16), lines.append
    )
    assert rounded.loss == pytest.approx(exact.loss, rel=0.05)
    assert all(p.dtype is torch.float32 for p in rounded_model.parameters())


def test_a_saved_adapter_gives_the_same_logits_in_peft(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = add_lora(tiny_model(), PLAN)
    fine_tune(model, tokenizer, ROWS, PLAN)
    save_adapter(model, tmp_path)
    ids = torch.tensor([[5, 6, 7, 8]])
    model.eval()
    loaded = PeftModel.from_pretrained(tiny_model(), str(tmp_path)).eval()
    with torch.inference_mode():
        assert torch.equal(model(input_ids=ids).logits, loaded(input_ids=ids).logits)


def test_the_file_is_fp16_and_names_no_path(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = add_lora(tiny_model(), PLAN)
    save_adapter(model, tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert {value.dtype for value in tensors.values()} == {torch.float16}
    assert len(tensors) == 2 * 7 * 2  # layers, projections, A and B
    assert (
        '"base_model_name_or_path": "intrinsic/base"'
        in (tmp_path / "adapter_config.json").read_text()
    )


@pytest.mark.parametrize("domain", ["coding", "medical"])
def test_a_bundled_adapter_stays_under_two_megabytes(domain: str) -> None:
    config = base_config(4096)
    with torch.device("meta"):
        model = add_lora(LlamaForCausalLM(config), plan_for(domain))
    numbers = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert 2 * numbers < 2_000_000


def test_ranks_differ_among_the_bundled_adapters() -> None:
    assert plan_for("coding").rank != plan_for("medical").rank


def test_the_base_has_five_to_fifteen_million_parameters_in_25_megabytes() -> None:
    with torch.device("meta"):
        parameters = LlamaForCausalLM(base_config(4096)).num_parameters()
    assert 5_000_000 <= parameters <= 12_500_000
