"""A generated adapter: an adapter like any other, in memory or as a folder for PEFT."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import safetensors.torch
import torch

from intrinsic.card import AdapterCard
from intrinsic.lora import Digest, Factors, LoraCheckpoint, LoraConfig
from intrinsic.lora.checkpoint import WEIGHTS_NAME, read_checkpoint
from intrinsic.lora.config import CONFIG_NAME
from intrinsic.lora.mixture_card import CARD_NAME, card_text
from intrinsic.lora.safetensors_bytes import Bytes
from intrinsic.lora.save import check_target, whole_folder, writing


@dataclass(frozen=True)
class Generated:
    """What one hypernetwork generated from one embedding; nothing changes it later.

    `network` is the hypernetwork's fingerprint and `digest` the SHA-256 of the embedding's float32
    bytes. The factors carry their scale α / r. `relative_norm` is the largest `‖ΔW‖ / ‖W‖` of any
    target (Frobenius). `bytes_used` counts what belongs to this adapter alone: factors that all
    queries share are not in it. `transposed` says that the layers store `(in, out)`.
    """

    network: str
    digest: str
    factors: Mapping[str, Factors]
    bytes_used: int
    relative_norm: float
    transposed: bool = False

    @cached_property
    def key(self) -> str:
        """SHA-256 of network and embedding, in hex: the name of what was generated."""
        return hashlib.sha256(f"{self.network}{self.digest}".encode()).hexdigest()

    @property
    def rank(self) -> int:
        """r, the same for every target."""
        return next(iter(self.factors.values())).rank

    @property
    def alpha(self) -> float:
        """α, so that α / r is the factors' scale."""
        return next(iter(self.factors.values())).scale * self.rank


def as_checkpoint(generated: Generated, *, base_model: str = "") -> LoraCheckpoint:
    """The adapter as a checkpoint that was never a file; its path is `hypernet:KEY`.

    Its digest is that of settings and tensors.
    """
    config = LoraConfig(
        r=generated.rank,
        alpha=generated.alpha,
        target_modules=tuple(generated.factors),
        base_model=base_model,
        extra={"fan_in_fan_out": generated.transposed},
    )
    all_factors = generated.factors.values()
    whole = sum(f.A.nbytes + f.out_features * f.rank * f.A.itemsize for f in all_factors)

    def read() -> list[bytes | Bytes]:
        settings = json.dumps(_settings(generated, base_model), sort_keys=True).encode()
        tensors = (tensor for f in all_factors for tensor in (f.A, f.B))
        return [settings, *(_bytes_of(tensor) for tensor in tensors)]

    return LoraCheckpoint(
        path=Path(f"hypernet:{generated.key}"),
        config=config,
        factors=generated.factors,
        content=Digest.later(read, whole),
        bytes_used=sum(tensor.nbytes for f in all_factors for tensor in f.stored),
    )


def export(
    generated: Generated,
    folder: str | Path,
    *,
    base_model: str = "",
    card: AdapterCard | None = None,
    replace: bool = False,
    task_type: str | None = "CAUSAL_LM",
) -> LoraCheckpoint:
    """Write a folder that PEFT loads, whole or not at all, and read it back.

    `task_type` is PEFT's word for what the model is for, None for any other than it knows.
    Without a card the adapter gets one that says its folder's name alone. Raises what
    `check_target` raises.
    """
    target = check_target(folder, replace=replace)
    tensors = {}
    for module, factors in generated.factors.items():
        for side, factor in (("A", factors.A), ("B", factors.B)):
            # A copy, as safetensors takes no two tensors in one storage, and none with gaps.
            own = factor.cpu().clone(memory_format=torch.contiguous_format)
            tensors[f"base_model.model.{module}.lora_{side}.weight"] = own
    data = safetensors.torch.save(tensors, metadata={"format": "pt"})
    config = json.dumps(_settings(generated, base_model, task_type), indent=2, sort_keys=True)
    with writing(target):
        with whole_folder(target) as made:
            (made / WEIGHTS_NAME).write_bytes(data)
            (made / CONFIG_NAME).write_text(config + "\n", encoding="utf-8")
            text = card_text(card or AdapterCard(target.name))
            (made / CARD_NAME).write_text(text, encoding="utf-8")
            read_checkpoint(made)
        return read_checkpoint(target)


def _settings(
    generated: Generated, base_model: str, task_type: str | None = "CAUSAL_LM"
) -> dict[str, object]:
    alpha = generated.alpha
    return {
        "peft_type": "LORA",
        "task_type": task_type,
        "base_model_name_or_path": base_model or None,
        "r": generated.rank,
        "lora_alpha": alpha if alpha % 1 else int(alpha),
        "target_modules": list(generated.factors),
        "fan_in_fan_out": generated.transposed,
        "bias": "none",
        "inference_mode": True,
        "lora_dropout": 0.0,
        "use_dora": False,
        "use_rslora": False,
    }


def _bytes_of(tensor: torch.Tensor) -> Bytes:
    return tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy()
