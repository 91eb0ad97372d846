"""Train one LoRA adapter per domain with PEFT and save it as fp16 safetensors.

Only the answer's tokens (and the end mark) carry loss. All seven projections of every layer are
adapted; `alpha = 2 r`, no dropout. Beside the likelihood of the answer a contrast can be trained:
an answer shall be likelier under its own question than under another row's,

    loss = -mean log p(answer | question)
           + contrast * softplus(log p(start | another question) - log p(start | question))

where `start` is the answer's first tokens. It sums over tokens where the likelihood averages, so
that a weight of 0.2 drowns the likelihood; it is off by default. Of the questions a few are left
empty, so that the adapter also knows how likely an answer is before anything is asked.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from rich.console import Console
from rich.progress import Progress
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from intrinsic.training.corpus import Row
from intrinsic.training.optim import scale_learning_rates, warm_then_linear
from intrinsic.training.scoring import IGNORED, Encoded, answer_log_probs, encode_pair, pad_batch

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BASE_NAME = "intrinsic/base"
DEFAULT_RANK = 16
START_TOKENS = 32
NEIGHBOURS = 50


@dataclass(frozen=True)
class FineTunePlan:
    """How one adapter is trained. Ends at `steps` or `minutes`, whichever comes first."""

    rank: int = DEFAULT_RANK
    steps: int = 1200
    minutes: float = 10.0
    learning_rate: float = 4e-3
    batch_tokens: int = 1024
    seed: int = 17
    contrast: float = 0.0
    blank_share: float = 0.05


def plan_for(domain: str) -> FineTunePlan:
    """The plan of a bundled adapter. Ranks differ, so that mixed ranks are met in real files."""
    return FineTunePlan(rank=8) if domain == "coding" else FineTunePlan()


@dataclass(frozen=True)
class Example:
    """An answer after its own question, and its start after another row's question."""

    own: Encoded
    other: Encoded


@dataclass(frozen=True)
class FineTuneResult:
    """What was done: steps, padded tokens, minutes, mean answer loss of the last 20 steps."""

    steps: int
    tokens: int
    minutes: float
    loss: float


def resume_lora(model: LlamaForCausalLM, folder: Path) -> PeftModel:
    """Wrap the model with the adapter in `folder`, to be trained further."""
    return PeftModel.from_pretrained(model, str(folder), is_trainable=True)


def add_lora(model: LlamaForCausalLM, plan: FineTunePlan) -> PeftModel:
    """Wrap the model with a fresh adapter that changes nothing yet; the base is frozen."""
    torch.manual_seed(plan.seed)
    config = LoraConfig(
        r=plan.rank,
        lora_alpha=2 * plan.rank,
        target_modules=TARGETS,
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )
    wrapped = get_peft_model(model, config)
    assert isinstance(wrapped, PeftModel)
    return wrapped


def make_examples(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], plan: FineTunePlan
) -> list[Example]:
    """Encode each row with its own question, or an empty one, and with another row's.

    The other question is of about the same length, so that the pair costs little to pad.
    """
    draw = random.Random(plan.seed)
    ordered = sorted(rows, key=lambda row: len(row.prompt))
    examples = []
    for at, row in enumerate(ordered):
        prompt = "" if draw.random() < plan.blank_share else row.prompt
        own = encode_pair(tokenizer, prompt, row.response, with_end=True)
        near = ordered[max(0, at - NEIGHBOURS) : at + NEIGHBOURS]
        other = encode_pair(tokenizer, draw.choice(near).prompt, row.response)
        start = other.labels.count(IGNORED) + START_TOKENS
        examples.append(Example(own, Encoded(other.ids[:start], other.labels[:start])))
    return examples


def batches(examples: Sequence[Example], batch_tokens: int, seed: int) -> Iterator[list[Example]]:
    """Batches of similar length without end; each holds at most `batch_tokens` with padding."""
    shuffler = random.Random(seed)
    while True:
        keys = [(len(one.own.ids) + shuffler.random() * 16, at) for at, one in enumerate(examples)]
        groups: list[list[Example]] = [[]]
        for _, at in sorted(keys):
            longest = max([len(examples[at].own.ids), *(len(one.own.ids) for one in groups[-1])])
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
    label: str = "",
) -> FineTuneResult:
    """Train the wrapped model's adapter on `rows`, in place."""
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = make_optimizer(weights, plan.learning_rate)
    losses: list[float] = []
    tokens = 0
    started = time.monotonic()
    examples = make_examples(tokenizer, rows, plan)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=1.0)
        for batch in batches(examples, plan.batch_tokens, plan.seed):
            spent = (time.monotonic() - started) / 60 / plan.minutes
            done = max(len(losses) / plan.steps, spent)
            if done >= 1.0:
                break
            scale_learning_rates([optimizer], warm_then_linear(done, hold=0.1))
            losses.append(_train_step(model, optimizer, weights, batch, plan.contrast))
            tokens += len(batch) * max(len(one.own.ids) for one in batch)
            progress.update(task, completed=done, description=f"{label}, loss {losses[-1]:.2f}")
    last = losses[-20:]
    minutes = (time.monotonic() - started) / 60
    return FineTuneResult(len(losses), tokens, minutes, sum(last) / max(1, len(last)))


def make_optimizer(weights: Sequence[Tensor], learning_rate: float) -> torch.optim.Optimizer:
    """AdamW over the adapter: with Muon the loss fell less in the same steps."""
    return torch.optim.AdamW(weights, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0)


def _train_step(
    model: PeftModel,
    optimizer: torch.optim.Optimizer,
    weights: Sequence[torch.Tensor],
    batch: Sequence[Example],
    contrast: float,
) -> float:
    log_probs, rows = answer_log_probs(model, *pad_batch([one.own for one in batch]))
    loss = total = -log_probs.mean()
    if contrast > 0:
        others = answer_log_probs(model, *pad_batch([one.other for one in batch]))
        gap = _start_sums(log_probs, rows, len(batch)) - _start_sums(*others, len(batch))
        total = loss + contrast * torch.nn.functional.softplus(-gap).mean()
    torch.autograd.backward(total)
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def _start_sums(log_probs: Tensor, rows: Tensor, count: int) -> Tensor:
    """Sum of each row's first `START_TOKENS` log-probabilities (count,)."""
    lengths = torch.bincount(rows, minlength=count)
    first = torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
    early = torch.arange(len(rows)) - first < START_TOKENS
    return torch.zeros(count).index_add(0, rows[early], log_probs[early])


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Write `adapter_config.json` and fp16 `adapter_model.safetensors`; rounds the live weights."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.half().float()
    config = model.peft_config["default"]
    config.base_model_name_or_path = BASE_NAME
    config.inference_mode = True
    trained = {
        name: value.half()
        for name, value in model.state_dict().items()
        if ".lora_A." in name or ".lora_B." in name
    }
    model.save_pretrained(str(folder), state_dict=trained, save_embedding_layers=False)
