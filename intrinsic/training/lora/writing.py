"""The trained adapter as a folder in PEFT's format, whole or not at all."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from peft import PeftModel, get_peft_model_state_dict

from intrinsic.card import AdapterCard
from intrinsic.lora.checkpoint import WEIGHTS_NAME, read_checkpoint
from intrinsic.lora.config import CONFIG_NAME
from intrinsic.lora.save import whole_folder
from intrinsic.registry.card_file import write_card
from intrinsic.registry.entry import AdapterEntry
from intrinsic.registry.provenance import Provenance
from intrinsic.training.lora.base import BaseModel
from intrinsic.training.lora.plan import FileDtype

LIBRARIES = (
    "torch", "transformers", "sentence-transformers", "peft", "accelerate", "intrinsic-lora",
)  # fmt: skip


_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def round_adapter(model: PeftModel, dtype: FileDtype) -> None:
    """Round the adapter's weights to what a file in `dtype` can hold; they stay float32."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(_DTYPES[dtype]).float()


def write_adapter(
    model: PeftModel,
    base: BaseModel,
    target: Path,
    card: AdapterCard,
    provenance: Provenance,
    dtype: FileDtype = "fp32",
) -> None:
    """Write config, tensors in `dtype`, card and provenance, check them, and put them in place.

    The same adapter gives the same bytes of config and tensors.
    """
    with whole_folder(target) as made:
        tensors = {
            name: tensor.detach().cpu().to(_DTYPES[dtype]).contiguous()
            for name, tensor in get_peft_model_state_dict(
                model, save_embedding_layers=False
            ).items()
        }
        data = safetensors.torch.save(tensors, metadata={"format": "pt"})
        (made / WEIGHTS_NAME).write_bytes(data)
        config = json.dumps(_config(model, base), indent=2, sort_keys=True)
        (made / CONFIG_NAME).write_text(config + "\n", encoding="utf-8")
        write_card(AdapterEntry(card, made, base.name), card)
        provenance.save(made)
        read_checkpoint(made)


def library_versions() -> dict[str, str]:
    """Versions of the libraries that a training depends on, as far as they are installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _config(model: PeftModel, base: BaseModel) -> dict[str, Any]:
    config: dict[str, Any] = model.peft_config["default"].to_dict()
    config |= {
        "base_model_name_or_path": base.name,
        "revision": base.revision or None,
        "inference_mode": True,
    }
    return {
        key: sorted(value) if isinstance(value, set) else value for key, value in config.items()
    }
