"""A fresh adapter on a base model, or one that was made before."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from intrinsic.training.lora.plan import AdapterPlan
from intrinsic.training.lora.start import Start


def add_adapter(
    model: PreTrainedModel,
    plan: AdapterPlan,
    targets: Sequence[str],
    start: Start | None = None,
    task: str = "CAUSAL_LM",
) -> PeftModel:
    """Wrap a model with an adapter; the base is frozen.

    The adapter is fresh and changes nothing yet, or is that of `start`, whose plan is given.
    `task` is PEFT's name for what the model does.
    """
    layers = [
        layer
        for name, layer in model.named_modules()
        if any(f".{name}".endswith(f".{end}") for end in targets)
    ]
    torch.manual_seed(plan.seed)
    config = LoraConfig(
        r=plan.rank,
        lora_alpha=plan.scale if plan.scale % 1 else int(plan.scale),
        target_modules=list(targets),
        lora_dropout=plan.dropout,
        fan_in_fan_out=all(isinstance(layer, Conv1D) for layer in layers),
        bias="none",
        task_type=task,
    )
    if plan.gradient_checkpointing:
        newer = getattr(model, "activation_checkpointing_enable", None)
        enable = newer or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    wrapped = get_peft_model(model, config)
    if start is not None:
        start.load_into(wrapped)
    return wrapped
