"""Tiny random models and adapters on disk, for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.pytorch_utils import Conv1D

VOCABULARY = 97


def llama(seed: int = 0, dtype: torch.dtype = torch.float32, *, tied: bool = False) -> Any:
    """A Llama of two layers with grouped-query attention."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).to(dtype).eval()


def gpt2(seed: int = 0) -> Any:
    """A GPT-2 of two layers, whose projections are Conv1D."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        bos_token_id=1,
        eos_token_id=2,
    )
    return GPT2LMHeadModel(config).eval()


def tokens(rows: int = 2, width: int = 7, seed: int = 0) -> torch.Tensor:
    """Random token ids, `(rows, width)`."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCABULARY, (rows, width), generator=generator)


def shape_of(layer: nn.Module) -> tuple[int, int]:
    """`(out, in)` of an nn.Linear or Conv1D."""
    weight: Any = layer.weight
    out, into = weight.shape
    return (into, out) if isinstance(layer, Conv1D) else (out, into)


def factors_for(
    model: nn.Module,
    targets: Sequence[str],
    ranks: int | Mapping[str, int] = 4,
    seed: int = 0,
    size: float = 0.3,
) -> dict[str, torch.Tensor]:
    """Random LoRA tensors, by their keys in a PEFT checkpoint, for the layers in `targets`."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for name, layer in model.named_modules():
        suffix = name.rsplit(".", 1)[-1]
        if suffix not in targets or not isinstance(layer, nn.Linear | Conv1D):
            continue
        rank = ranks if isinstance(ranks, int) else ranks[suffix]
        out, into = shape_of(layer)
        prefix = f"base_model.model.{name}"
        tensors[f"{prefix}.lora_A.weight"] = torch.randn(rank, into, generator=generator) * size
        tensors[f"{prefix}.lora_B.weight"] = torch.randn(out, rank, generator=generator) * size
    return tensors


def write_adapter(
    folder: Path,
    model: nn.Module,
    *,
    targets: Sequence[str] = ("q_proj", "v_proj"),
    r: int = 4,
    alpha: float = 8,
    seed: int = 0,
    ranks: Mapping[str, int] | None = None,
    card: Mapping[str, object] | None = None,
    **config: object,
) -> Path:
    """Write a checkpoint in PEFT's format for `model` and return its folder."""
    tensors = factors_for(model, targets, ranks or r, seed)
    return write_files(
        folder, tensors, card, target_modules=list(targets), r=r, lora_alpha=alpha, **config
    )


def write_files(
    folder: Path,
    tensors: Mapping[str, torch.Tensor],
    card: Mapping[str, object] | None = None,
    /,
    **config: object,
) -> Path:
    """Write tensors and a config as they are, sound or not."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none"} | config
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    safetensors.torch.save_file(dict(tensors), folder / "adapter_model.safetensors")
    if card is not None:
        (folder / "card.json").write_text(json.dumps(card))
    return folder


def tokenizer(*, chat: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer with one token per character: ids 3 to 96, from the space on."""
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2} | {chr(29 + i): i for i in range(3, VOCABULARY)}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    if chat:
        wrapped.chat_template = (
            "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
            "{% if add_generation_prompt %}[assistant]{% endif %}"
        )
    return wrapped
