"""The same random weights and adapters, bare, under PEFT and under ours."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from intrinsic.engine import Held, LoraEngine
from intrinsic.lora import read_checkpoint
from intrinsic.mixture import Mixture
from tests.tiny import write_adapter

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RANK = 16
ROWS = 8
VOCABULARY = 32_000


@dataclass(frozen=True)
class Rivals:
    """Adapters `a0` to `a7` are loaded on both, `a8` is a folder only."""

    folder: Path
    bare: Any
    peft: Any
    ours: Any
    engine: LoraEngine


def build(folder: Path, dtype: torch.dtype, layers: int) -> Rivals:
    """A model of the shape of Qwen2-0.5B with a vocabulary of 32,000, and its adapters."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=896, intermediate_size=4864, num_hidden_layers=layers,
        num_attention_heads=14, num_key_value_heads=2, max_position_embeddings=2048,
        tie_word_embeddings=True,
    )  # fmt: skip
    bare = Qwen2ForCausalLM(config).to(dtype).eval()
    for number in range(ROWS + 1):
        write_adapter(folder / f"a{number}", bare, targets=TARGETS, r=RANK, alpha=RANK, seed=number)
    peft = PeftModel.from_pretrained(copy.deepcopy(bare), str(folder / "a0"), adapter_name="a0")
    ours = copy.deepcopy(bare)
    engine = LoraEngine(ours)
    engine.load(read_checkpoint(folder / "a0"), "a0")
    for number in range(1, ROWS):
        peft.load_adapter(str(folder / f"a{number}"), adapter_name=f"a{number}")
        engine.load(read_checkpoint(folder / f"a{number}"), f"a{number}")
    return Rivals(folder, bare, peft.eval(), ours, engine)


def forward_pass(model: nn.Module, rows: int, tokens: int) -> Callable[..., None]:
    """A forward pass of new ids; for one token, on top of a cache of 256 that is cut again."""
    generator = torch.Generator().manual_seed(rows * 1000 + tokens)
    ids = torch.randint(0, VOCABULARY, (rows, tokens), generator=generator)
    if tokens > 1:
        return lambda **kwargs: model(input_ids=ids, logits_to_keep=1, **kwargs)
    known = torch.randint(0, VOCABULARY, (rows, 256), generator=generator)
    cache = model(input_ids=known, use_cache=True, logits_to_keep=1).past_key_values

    def decode(**kwargs: object) -> None:
        model(input_ids=ids, past_key_values=cache, use_cache=True, **kwargs)
        cache.crop(-tokens)

    return decode


def under(
    engine: LoraEngine, mixtures: Mixture | Sequence[Mixture], work: Callable[[], None]
) -> Callable[[], None]:
    """Work within an activation of its own."""

    def activated() -> None:
        with engine.activate(mixtures):
            work()

    return activated


def within(held: Held, work: Callable[[], None]) -> Callable[[], None]:
    """Work under mixtures that are held already."""

    def active() -> None:
        with held.active():
            work()

    return active
