"""An adapter that a training starts from, in place of a fresh one that changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from peft import PeftModel, set_peft_model_state_dict
from torch import nn

from intrinsic.engine.target import Target
from intrinsic.errors import IncompatibleAdapterError, UnsupportedAdapterError
from intrinsic.lora import Factors, LoraCheckpoint, read_checkpoint
from intrinsic.training.lora.plan import LoraPlan


@dataclass(frozen=True, slots=True)
class Start:
    """A sound adapter of one rank and scale, whose layers the model has."""

    checkpoint: LoraCheckpoint

    @property
    def digest(self) -> str:
        """SHA-256 of its files."""
        return self.checkpoint.digest

    def planned(self, plan: LoraPlan) -> LoraPlan:
        """The plan with the adapter's rank, alpha and layers."""
        first = next(iter(self.checkpoint.factors.values()))
        return replace(
            plan,
            rank=first.rank,
            alpha=first.scale * first.rank,
            targets=tuple(sorted(self.checkpoint.factors)),
        )

    def load_into(self, model: PeftModel) -> None:
        """Give the wrapped model's fresh adapter these weights."""
        tensors: dict[str, torch.Tensor] = {}
        for name, factors in self.checkpoint.factors.items():
            tensors[f"base_model.model.{name}.lora_A.weight"] = factors.A.float()
            tensors[f"base_model.model.{name}.lora_B.weight"] = factors.B.float()
        found = set_peft_model_state_dict(model, tensors)
        assert not found.unexpected_keys, found.unexpected_keys


def start_from(folder: Path, model: nn.Module) -> Start:
    """Read the adapter to start from.

    Raises `CheckpointError` where its files are not sound, `UnsupportedAdapterError` where it is
    more than `B A` of one rank and scale, `IncompatibleAdapterError` where the model has other
    layers.
    """
    checkpoint = read_checkpoint(folder)
    kinds = {(one.rank, one.scale) for one in checkpoint.factors.values()}
    if len(kinds) != 1 or not all(one.is_plain for one in checkpoint.factors.values()):
        raise UnsupportedAdapterError(
            f"{folder} has DoRA, biases, embeddings, or several ranks or scales; a training starts "
            "from a plain LoRA of one rank"
        )
    modules = dict(model.named_modules())
    for name, factors in checkpoint.factors.items():
        misfit = _misfit(name, modules.get(name), factors)
        if misfit is not None:
            raise IncompatibleAdapterError(
                f"{folder} does not fit the base: {misfit}; start from an adapter of this base"
            )
    return Start(checkpoint)


def _misfit(name: str, layer: nn.Module | None, factors: Factors) -> str | None:
    return f"it has no {name}" if layer is None else Target(name, layer).misfit(factors)
