"""Tiny random models of transformers' own classes, and adapters that real PEFT makes for them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from intrinsic.lora import LoraCheckpoint, read_checkpoint
from intrinsic.mixture import Mixture
from tests.tiny import VOCABULARY

_COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": None,
    "pad_token_id": 0,
}
_GROUPED = {"intermediate_size": 48, "num_key_value_heads": 2}


@dataclass(frozen=True)
class Kind:
    """One architecture: its class and settings, and the layers that its two adapters change.

    `tied` says that head and embeddings are one parameter, `transposed` that projections are
    Conv1D. `smooth` are settings under which the logits have no jumps.
    """

    name: str
    settings: Mapping[str, object]
    first: tuple[str, ...] = ("q_proj", "v_proj", "down_proj")
    second: tuple[str, ...] = ("q_proj", "o_proj", "up_proj")
    tied: bool = False
    transposed: bool = False
    model_class: str = ""
    smooth: Mapping[str, object] = field(default_factory=dict)

    def build(self, dtype: torch.dtype = torch.float32, **settings: object) -> Any:
        """The same random model at every call, rounded to `dtype`."""
        torch.manual_seed(0)
        config = getattr(transformers, f"{self.name}Config")(
            **{**_COMMON, **self.settings, "tie_word_embeddings": self.tied, **settings}
        )
        model = getattr(transformers, self.model_class or f"{self.name}ForCausalLM")(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):  # they start as zeros, and a lost one would not show
                    parameter.normal_(std=0.2)
        return model.to(dtype).eval()


LLAMA = Kind("Llama", _GROUPED)
MOE = Kind(
    "Qwen2Moe",
    {
        **_GROUPED,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 24,
    },
    first=("q_proj", "v_proj", "shared_expert.down_proj"),
    second=("q_proj", "o_proj", "shared_expert.up_proj", "shared_expert_gate"),
    smooth={"num_experts_per_tok": 4},  # else a rounding may choose other experts
)
KINDS = (
    LLAMA,
    Kind("Qwen2", _GROUPED, tied=True),
    Kind("Qwen3", {**_GROUPED, "head_dim": 8}),
    Kind("Mistral", {**_GROUPED, "sliding_window": 4}),
    Kind("Gemma", {**_GROUPED, "head_dim": 8}, tied=True),
    Kind(
        "Phi",
        {"intermediate_size": 48},
        first=("q_proj", "v_proj", "fc2"),
        second=("q_proj", "dense", "fc1"),
    ),
    Kind(
        "GPT2",
        {},
        first=("c_attn", "c_fc"),
        second=("c_attn", "c_proj"),
        tied=True,
        transposed=True,
        model_class="GPT2LMHeadModel",
    ),
    Kind(
        "OPT",
        {"ffn_dim": 48, "word_embed_proj_dim": 24},
        first=("q_proj", "v_proj", "fc2", "project_in"),
        second=("q_proj", "out_proj", "fc1", "project_out"),
        tied=True,
    ),
    MOE,
)


def wrap_with_peft(model: nn.Module, targets: Sequence[str], seed: int, **settings: Any) -> Any:
    """PEFT's model around a copy of `model`, with a random adapter that changes something."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=list(targets), **settings)
    wrapped = get_peft_model(copy.deepcopy(model), config)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.3)
    return wrapped.eval()


@dataclass(frozen=True)
class Made:
    """A kind, its two adapters "a" and "b" as PEFT saved them, and PEFT's model under "a" alone."""

    kind: Kind
    checkpoints: Mapping[str, LoraCheckpoint]
    peft_model: Any


def make(kind: Kind, folder: Path) -> Made:
    """Make the adapters: of different targets, ranks and scale rules, with one layer in common."""
    model, rule = kind.build(), {"fan_in_fan_out": kind.transposed}
    first = wrap_with_peft(model, kind.first, seed=1, r=4, lora_alpha=8, **rule)
    second = wrap_with_peft(model, kind.second, seed=2, r=6, lora_alpha=9, use_rslora=True, **rule)
    first.save_pretrained(str(folder / "a"))
    second.save_pretrained(str(folder / "b"))
    return Made(kind, {name: read_checkpoint(folder / name) for name in "ab"}, first)


def in_fp64(model: Any, checkpoints: Mapping[str, LoraCheckpoint], mixture: Mixture) -> Any:
    """The slow way: a copy of the model in fp64 whose weights are `W + Σ w s B A`."""
    exact = copy.deepcopy(model).double()
    exact.config._experts_implementation = "eager"  # the grouped product knows no fp64
    for adapter, weight in mixture.entries:
        for name, factors in checkpoints[adapter].factors.items():
            layer = exact.get_submodule(name)
            change = weight * factors.scale * (factors.B.double() @ factors.A.double())
            transposed = type(layer).__name__ == "Conv1D"
            with torch.no_grad():
                layer.weight += change.T if transposed else change
    return exact
