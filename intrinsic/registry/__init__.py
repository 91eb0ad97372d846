"""Which adapters exist: a folder of PEFT checkpoints, each with its card."""

from intrinsic.registry.entry import AdapterEntry
from intrinsic.registry.registry import AdapterRegistry, ScanProblem

__all__ = ["AdapterEntry", "AdapterRegistry", "ScanProblem"]
