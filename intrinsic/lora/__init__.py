"""LoRA checkpoints in PEFT's format, and the arithmetic of mixtures: tensors only, no model."""

from intrinsic.lora.checkpoint import Factors, LoraCheckpoint, read_checkpoint
from intrinsic.lora.config import LoraConfig, read_config
from intrinsic.lora.delta import delta, mixed_weight
from intrinsic.lora.merge import MergeMethod, exact

__all__ = [
    "Factors",
    "LoraCheckpoint",
    "LoraConfig",
    "MergeMethod",
    "delta",
    "exact",
    "mixed_weight",
    "read_checkpoint",
    "read_config",
]
