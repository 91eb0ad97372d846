"""LoRA checkpoints in PEFT's format, and the arithmetic of mixtures: tensors only, no model."""

from intrinsic.lora.checkpoint import Factors, LoraCheckpoint, read_checkpoint
from intrinsic.lora.config import LoraConfig, read_config
from intrinsic.lora.core_factors import CoreFactors
from intrinsic.lora.dare import dare, dare_ties
from intrinsic.lora.delta import delta, dora_stretch, mixed_weight
from intrinsic.lora.digest import Digest
from intrinsic.lora.exact import exact
from intrinsic.lora.merge import MERGE_METHODS, merge_method
from intrinsic.lora.merge_options import MergeMethod, MergeOptions
from intrinsic.lora.merged_adapter import MergedAdapter, merge_checkpoints, modules_of
from intrinsic.lora.mixture_card import mixed_card
from intrinsic.lora.prune import magnitude_prune
from intrinsic.lora.save import check_target, save_adapter
from intrinsic.lora.svd import svd
from intrinsic.lora.ties import ties

__all__ = [
    "CoreFactors",
    "Digest",
    "Factors",
    "LoraCheckpoint",
    "LoraConfig",
    "MERGE_METHODS",
    "MergeMethod",
    "MergeOptions",
    "MergedAdapter",
    "check_target",
    "dare",
    "dare_ties",
    "delta",
    "dora_stretch",
    "exact",
    "magnitude_prune",
    "merge_checkpoints",
    "merge_method",
    "mixed_card",
    "mixed_weight",
    "modules_of",
    "read_checkpoint",
    "read_config",
    "save_adapter",
    "svd",
    "ties",
]
