"""Train one LoRA adapter per domain with PEFT and save it as fp16 safetensors.

Only the answer's tokens (and the end mark) carry loss. All seven projections of every layer are
adapted; `alpha = 2 r`, no dropout.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from rich.progress import Progress
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from intrinsic.training.corpus import Row
from intrinsic.training.optim import scale_learning_rates, warm_then_linear
from intrinsic.training.scoring import Encoded, answer_log_probs, encode_pair, pad_batch

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BASE_NAME = "intrinsic/base"
DEFAULT_RANK = 16


@dataclass(frozen=True)
class FineTunePlan:
    """How one adapter is trained. Ends at `steps` or `minutes`, whichever comes first."""

    rank: int = DEFAULT_RANK
    steps: int = 300
    minutes: float = 5.0
    learning_rate: float = 3e-3
    batch_tokens: int = 2048
    seed: int = 17


def plan_for(domain: str) -> FineTunePlan:
    """The plan of a bundled adapter. Ranks differ, so that mixed ranks are met in real files."""
    return FineTunePlan(rank=8) if domain == "coding" else FineTunePlan()


@dataclass(frozen=True)
class FineTuneResult:
    """What was done: steps, padded tokens seen, minutes, mean loss of the last 20 steps."""

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
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )
    wrapped = get_peft_model(model, config)
    assert isinstance(wrapped, PeftModel)
    return wrapped


def batches(encoded: Sequence[Encoded], batch_tokens: int, seed: int) -> Iterator[list[Encoded]]:
    """Batches of similar length without end; each holds at most `batch_tokens` with padding."""
    shuffler = random.Random(seed)
    while True:
        lengths = [(len(one.ids) + shuffler.random() * 16, at) for at, one in enumerate(encoded)]
        groups: list[list[Encoded]] = [[]]
        for _, at in sorted(lengths):
            one = encoded[at]
            if groups[-1] and (len(groups[-1]) + 1) * len(one.ids) > batch_tokens:
                groups.append([])
            groups[-1].append(one)
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
    encoded = [encode_pair(tokenizer, r.prompt, r.response, with_end=True) for r in rows]
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        weights, lr=plan.learning_rate, betas=(0.9, 0.98), weight_decay=0.0
    )
    losses: list[float] = []
    tokens = 0
    started = time.monotonic()
    with Progress() as progress:
        task = progress.add_task(label, total=1.0)
        for batch in batches(encoded, plan.batch_tokens, plan.seed):
            spent = (time.monotonic() - started) / 60 / plan.minutes
            done = max(len(losses) / plan.steps, spent)
            if done >= 1.0:
                break
            scale_learning_rates([optimizer], warm_then_linear(done, hold=0.1))
            losses.append(_train_step(model, optimizer, weights, batch))
            tokens += len(batch) * max(len(one.ids) for one in batch)
            progress.update(task, completed=done, description=f"{label}, loss {losses[-1]:.2f}")
    last = losses[-20:]
    minutes = (time.monotonic() - started) / 60
    return FineTuneResult(len(losses), tokens, minutes, sum(last) / max(1, len(last)))


def _train_step(
    model: PeftModel,
    optimizer: torch.optim.Optimizer,
    weights: Sequence[torch.Tensor],
    batch: Sequence[Encoded],
) -> float:
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
    config.base_model_name_or_path = BASE_NAME
    config.inference_mode = True
    trained = {
        name: value.half()
        for name, value in model.state_dict().items()
        if ".lora_A." in name or ".lora_B." in name
    }
    model.save_pretrained(str(folder), state_dict=trained, save_embedding_layers=False)
