"""Train one LoRA adapter per domain with PEFT and save it as fp16 safetensors.

Only the answer's tokens (and the end mark) carry loss. All seven projections of every layer are
adapted; `alpha = 2 r`. Of the questions a few are left empty, so that the adapter also
knows how likely an answer is before anything is asked.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from intrinsic.bundled import BUNDLED_NAME
from intrinsic.training.corpus import Row
from intrinsic.training.optim import scale_learning_rates, warm_then_linear
from intrinsic.training.precision import autocast
from intrinsic.training.scoring import Encoded, answer_log_probs, encode_pair, pad_batch

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
DEFAULT_RANK = 32
REPORT_EVERY = 100


@dataclass(frozen=True)
class FineTunePlan:
    """How one adapter is trained. Ends at `steps` or `minutes`, whichever comes first."""

    rank: int = DEFAULT_RANK
    steps: int = 2200
    minutes: float = 13.0
    learning_rate: float = 4e-3
    batch_tokens: int = 1024
    seed: int = 17
    blank_share: float = 0.05
    dropout: float = 0.0
    dtype: torch.dtype = torch.float32


def plan_for(domain: str) -> FineTunePlan:
    """The plan of a bundled adapter. Ranks differ, so that mixed ranks are met in real files.

    Of the four, `coding` has the fewest rows and learned them by heart without dropout.
    """
    return FineTunePlan(rank=24, dropout=0.1) if domain == "coding" else FineTunePlan()


@dataclass(frozen=True)
class FineTuneResult:
    """What was done: steps, padded tokens, minutes, mean answer loss of the last 20 steps."""

    steps: int
    tokens: int
    minutes: float
    loss: float


def add_lora(model: LlamaForCausalLM, plan: FineTunePlan) -> PeftModel:
    """Wrap the model with a fresh adapter that changes nothing yet; the base is frozen."""
    torch.manual_seed(plan.seed)
    config = LoraConfig(
        r=plan.rank,
        lora_alpha=2 * plan.rank,
        target_modules=TARGETS,
        lora_dropout=plan.dropout,
        bias="none",
        task_type="CAUSAL_LM",
    )
    wrapped = get_peft_model(model, config)
    assert isinstance(wrapped, PeftModel)
    return wrapped


def make_examples(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], plan: FineTunePlan
) -> list[Encoded]:
    """Encode each row with its own question or, for a few, with an empty one."""
    draw = random.Random(plan.seed)
    examples = []
    for row in rows:
        prompt = "" if draw.random() < plan.blank_share else row.prompt
        examples.append(encode_pair(tokenizer, prompt, row.response, with_end=True))
    return examples


def batches(examples: Sequence[Encoded], batch_tokens: int, seed: int) -> Iterator[list[Encoded]]:
    """Batches of similar length without end; each holds at most `batch_tokens` with padding."""
    shuffler = random.Random(seed)
    while True:
        keys = [(len(one.ids) + shuffler.random() * 16, at) for at, one in enumerate(examples)]
        groups: list[list[Encoded]] = [[]]
        for _, at in sorted(keys):
            longest = max([len(examples[at].ids), *(len(one.ids) for one in groups[-1])])
            if groups[-1] and (len(groups[-1]) + 1) * longest > batch_tokens:
                groups.append([])
            groups[-1].append(examples[at])
        shuffler.shuffle(groups)
        yield from groups


def fine_tune(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    plan: FineTunePlan,
    report: Callable[[str], None] = lambda line: None,
) -> FineTuneResult:
    """Train the wrapped model's adapter on `rows`, in place; `report` gets a line now and then."""
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = make_optimizer(weights, plan.learning_rate)
    losses: list[float] = []
    tokens = 0
    started = time.monotonic()
    examples = make_examples(tokenizer, rows, plan)
    model.train()
    for batch in batches(examples, plan.batch_tokens, plan.seed):
        minutes = (time.monotonic() - started) / 60
        done = max(len(losses) / plan.steps, minutes / plan.minutes)
        if done >= 1.0:
            break
        scale_learning_rates([optimizer], warm_then_linear(done, hold=0.1))
        losses.append(_train_step(model, optimizer, weights, batch, plan.dtype))
        tokens += len(batch) * max(len(one.ids) for one in batch)
        if len(losses) % REPORT_EVERY == 0:
            report(f"{done:4.0%}  loss {_mean(losses[-REPORT_EVERY:]):.3f}  minutes {minutes:.1f}")
    model.eval()
    minutes = (time.monotonic() - started) / 60
    return FineTuneResult(len(losses), tokens, minutes, _mean(losses[-20:]))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))


def make_optimizer(weights: Sequence[Tensor], learning_rate: float) -> torch.optim.Optimizer:
    """AdamW over the adapter: with Muon the loss fell less in the same steps."""
    return torch.optim.AdamW(weights, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0)


def _train_step(
    model: PeftModel,
    optimizer: torch.optim.Optimizer,
    weights: Sequence[torch.Tensor],
    batch: Sequence[Encoded],
    dtype: torch.dtype,
) -> float:
    with autocast(dtype):
        log_probs, _ = answer_log_probs(model, *pad_batch(batch))
    loss = -log_probs.mean()
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Write `adapter_config.json` and fp16 `adapter_model.safetensors`; rounds the live weights."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.half().float()
    config = model.peft_config["default"]
    config.base_model_name_or_path = BUNDLED_NAME
    config.inference_mode = True
    trained = {
        name: value.half()
        for name, value in model.state_dict().items()
        if ".lora_A." in name or ".lora_B." in name
    }
    model.save_pretrained(str(folder), state_dict=trained, save_embedding_layers=False)
