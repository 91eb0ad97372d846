"""The names that an adapter's file gives to an encoder's layers, as the encoder itself has them.

Saved from the encoder itself, by PEFT, by transformers or by sentence-transformers' `add_adapter`,
they are its own. `get_peft_model` around a whole SentenceTransformer writes `0.model.` before them
(`0.auto_model.` before its version 6), and around a model with a head the encoder's name in there.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from intrinsic.lora import LoraCheckpoint

_AROUND = ("0.auto_model.", "0.model.", "auto_model.", "model.")


def as_encoder_names(checkpoint: LoraCheckpoint, encoder: nn.Module) -> LoraCheckpoint:
    """The checkpoint with its layers named as in `encoder`.

    It is returned as it is where some layer bears the encoder's own name, or no prefix helps.
    """
    layers = {name for name, _ in encoder.named_modules()}
    if not layers.isdisjoint(checkpoint.factors):
        return checkpoint
    own = str(getattr(encoder, "base_model_prefix", ""))
    for prefix in (*_AROUND, *((f"{own}.",) if own else ())):
        if all(name.removeprefix(prefix) in layers for name in checkpoint.factors):
            return replace(
                checkpoint,
                factors={n.removeprefix(prefix): f for n, f in checkpoint.factors.items()},
                base_copies={n.removeprefix(prefix): t for n, t in checkpoint.base_copies.items()},
            )
    return checkpoint
