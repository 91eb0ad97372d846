"""Train the bundled base model: a Llama of 5 million parameters, on two CPU threads.

The documents of `corpus.base_mix` are shuffled, joined with the end mark and cut into windows of
256 tokens (512 for the last part, so that long prompts are known). In the early part of training a
step sees 2,048 tokens, and most documents are echoes: a short span, twice in a row. Copying from
the context is hardly learned from a few million tokens of plain text, and an adapter cannot tell
answers apart when the base never looks back at the question. Later a step sees twice as many
tokens of general text, with few questions and answers of the domains that have adapters: those are
left to the adapters.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from intrinsic.training.corpus import Mix
from intrinsic.training.optim import make_optimizers, scale_learning_rates, warm_then_linear
from intrinsic.training.precision import autocast, without_denormals
from intrinsic.training.tokenizer import CONTEXT_TOKENS, answer_ids, prompt_ids, save_tokenizer

ECHO_TOKENS = (24, 64)
EARLY_REPEATS = {"rows": 3, "general": 1, "passages": 2, "prose": 2, "code": 1}
LATE_REPEATS = {"rows": 1, "general": 1, "passages": 0, "prose": 2, "code": 1}
PART_TOKENS = 1024


@dataclass(frozen=True)
class PretrainPlan:
    """How long and from which seed. Training ends at `steps` or `minutes`, whichever is first.

    Until `early` of it is done a step sees `batch_tokens` tokens, then twice as many.
    """

    steps: int = 2800
    minutes: float = 34.0
    seed: int = 17
    batch_tokens: int = 2048
    window_tokens: int = 256
    long_windows_from: float = 0.8
    echo_share: float = 0.6
    early: float = 0.35
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class PretrainResult:
    """What was done: steps, tokens seen, minutes, mean loss of the last 20 steps in nats/token."""

    steps: int
    tokens: int
    minutes: float
    loss: float


def base_config(vocabulary_size: int) -> LlamaConfig:
    """Six layers, width 256, four heads that share two key-value heads, tied embeddings."""
    return LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=256,
        intermediate_size=640,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
    )


def encode_documents(
    tokenizer: PreTrainedTokenizerBase, mix: Mix, repeats: Mapping[str, int]
) -> list[list[int]]:
    """Ids of each document with its repeats, each closed by the end mark."""
    end = [int(tokenizer.eos_token_id)]
    documents: list[list[int]] = []
    for name, rows in {"rows": mix.rows, "general": mix.general}.items():
        chats = [prompt_ids(tokenizer, r.prompt) + answer_ids(tokenizer, r.response) for r in rows]
        documents += chats * repeats[name]
    for name, texts in {"passages": mix.passages, "prose": mix.prose, "code": mix.code}.items():
        documents += [answer_ids(tokenizer, text) for text in texts] * repeats[name]
    return [ids + end for ids in documents]


def token_stream(documents: list[list[int]], seed: int, echo_share: float = 0.0) -> Iterator[int]:
    """The documents' ids without end, shuffled for each pass; a share of them as echoes."""
    shuffler = random.Random(seed)
    order = list(documents)
    while True:
        shuffler.shuffle(order)
        for document in order:
            echoed = shuffler.random() < echo_share
            yield from _echo(document, shuffler) if echoed else document


def _echo(document: list[int], draw: random.Random) -> list[int]:
    length = draw.randint(*ECHO_TOKENS)
    start = draw.randint(0, max(0, len(document) - 1 - length))
    span = document[start : start + length]
    return [*span, document[-1], *span, document[-1]]


def next_batch(stream: Iterator[int], rows: int, window: int) -> Tensor:
    """Ids (rows, window + 1): inputs and, one to the right, targets."""
    flat = [next(stream) for _ in range(rows * (window + 1))]
    return torch.tensor(flat).view(rows, window + 1)


def pretrain(
    tokenizer: PreTrainedTokenizerBase, mix: Mix, plan: PretrainPlan, checkpoint: Path | None = None
) -> tuple[LlamaForCausalLM, PretrainResult]:
    """Train the base; with `checkpoint` a copy is written there every 200 steps."""
    torch.manual_seed(plan.seed)
    model = LlamaForCausalLM(base_config(len(tokenizer)))
    model.set_attn_implementation("eager")  # for windows this short faster than the fused one
    model.train()
    early = encode_documents(tokenizer, mix, EARLY_REPEATS)
    late = encode_documents(tokenizer, mix, LATE_REPEATS)
    streams = (
        token_stream(early, plan.seed, plan.echo_share),
        token_stream(late, plan.seed + 1),
    )
    losses: list[float] = []
    tokens = 0
    started = time.monotonic()
    with without_denormals(), Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("base", total=1.0)
        for done, seen in _train_steps(model, streams, plan, losses):
            tokens += seen
            progress.update(task, completed=done, description=f"base, loss {losses[-1]:.2f}")
            if len(losses) % 50 == 0:
                recent = sum(losses[-50:]) / 50
                minutes = (time.monotonic() - started) / 60
                progress.print(f"step {len(losses)} loss {recent:.3f} minutes {minutes:.1f}")
            if checkpoint and len(losses) % 200 == 0:
                save_base(model, tokenizer, checkpoint)
    minutes = (time.monotonic() - started) / 60
    last = losses[-20:]
    return model, PretrainResult(len(losses), tokens, minutes, sum(last) / max(1, len(last)))


def _train_steps(
    model: LlamaForCausalLM,
    streams: tuple[Iterator[int], Iterator[int]],
    plan: PretrainPlan,
    losses: list[float],
) -> Iterator[tuple[float, int]]:
    """Take steps until the plan is fulfilled; yields the progress in [0, 1] and tokens of each."""
    optimizers = make_optimizers(model, plan.dtype)
    started = time.monotonic()
    for step in range(plan.steps):
        spent = (time.monotonic() - started) / 60 / plan.minutes
        done = max(step / plan.steps, spent)
        if done >= 1.0:
            return
        scale_learning_rates(optimizers, warm_then_linear(done))
        window = plan.window_tokens * (2 if done >= plan.long_windows_from else 1)
        stream, tokens = (
            (streams[0], plan.batch_tokens)
            if done < plan.early
            else (streams[1], 2 * plan.batch_tokens)
        )
        batch = next_batch(stream, tokens // window, window)
        losses.append(_train_step(model, optimizers, batch, plan.dtype))
        yield done, tokens


def _train_step(
    model: LlamaForCausalLM,
    optimizers: list[torch.optim.Optimizer],
    batch: Tensor,
    dtype: torch.dtype,
) -> float:
    total = 0.0
    parts = batch.chunk(max(1, batch.numel() // PART_TOKENS))  # logits of a size for the caches
    for part in parts:
        with autocast(dtype):
            logits = model(input_ids=part[:, :-1], use_cache=False).logits.float()
        targets = part[:, 1:].flatten()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets)
        share = len(part) / len(batch)
        torch.autograd.backward(loss * share)
        total += loss.item() * share
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return total


def save_base(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the weights as fp16 safetensors with config and tokenizer, ready to be loaded."""
    folder.mkdir(parents=True, exist_ok=True)
    copy = LlamaForCausalLM(model.config).half()
    copy.load_state_dict({k: v.half() for k, v in model.state_dict().items()})
    copy.generation_config = GenerationConfig(
        eos_token_id=0,
        pad_token_id=1,
        max_new_tokens=120,
        do_sample=False,
        repetition_penalty=1.3,  # greedy text of so small a model runs in circles without it
    )
    copy.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
