"""Mixtures on a live model: side-car layers, merged mode, and nothing left behind."""

from intrinsic.engine.active import Held
from intrinsic.engine.engine import LoadedAdapter, LoraEngine

__all__ = ["Held", "LoadedAdapter", "LoraEngine"]
