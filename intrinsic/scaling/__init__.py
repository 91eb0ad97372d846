"""Run-time scaling of LoRA adapters on models that others wrapped with PEFT."""

from intrinsic.scaling.factor import checked_factor
from intrinsic.scaling.registry import ScaleRegistry
from intrinsic.scaling.report import Refreshed, ScaleReport, TargetScale

__all__ = ["Refreshed", "ScaleRegistry", "ScaleReport", "TargetScale", "checked_factor"]
