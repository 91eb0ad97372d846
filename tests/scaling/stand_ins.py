"""Models and layers in the shapes that older PEFT versions and their likes have."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn


class MappingLora(nn.Module):
    """A scale per adapter in a mapping."""

    def __init__(self, scaling: Mapping[str, Any]) -> None:
        super().__init__()
        self.lora_A = {name: torch.zeros(2, 4) for name in scaling}
        self.scaling = dict(scaling)


class SetScaleLora(nn.Module):
    """PEFT's `set_scale`: from the initial scale, silent about unknown names."""

    def __init__(self, initial: Mapping[str, float]) -> None:
        super().__init__()
        self.lora_A = {name: torch.zeros(2, 4) for name in initial}
        self.initial = dict(initial)
        self.in_force = dict(initial)

    def set_scale(self, adapter: str, scale: float) -> None:
        if adapter in self.initial:
            self.in_force[adapter] = self.initial[adapter] * scale


class ScaleLayerLora(nn.Module):
    """PEFT's `scale_layer`, which compounds, and `unscale_layer`, which resets."""

    def __init__(self, initial: float) -> None:
        super().__init__()
        self.initial = self.in_force = initial

    def scale_layer(self, scale: float) -> None:
        self.in_force *= scale

    def unscale_layer(self, scale: float | None = None) -> None:
        self.in_force = self.initial if scale is None else self.in_force / scale


class ScalarLora(nn.Module):
    """PEFT 0.2: one number, one unnamed adapter."""

    def __init__(self, scaling: Any) -> None:
        super().__init__()
        self.lora_A = nn.Linear(4, 2, bias=False)
        self.scaling = scaling
        self.merged = False


class Attention(nn.Module):
    """Has a `scaling` of its own, and a LoRA layer inside."""

    def __init__(self, projection: nn.Module) -> None:
        super().__init__()
        self.scaling = 0.125
        self.projection = projection


class Wrapped(nn.Module):
    """A model around layers, which tells its adapters by the attributes that it is given."""

    def __init__(self, *layers: nn.Module, **told: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Attention(layer) for layer in layers)
        for name, value in told.items():
            setattr(self, name, value)

    @property
    def lora(self) -> list[Any]:
        """The LoRA layers."""
        return [attention.projection for attention in self.layers]


class Choosing(Wrapped):
    """Besides, PEFT's `set_adapter`."""

    def set_adapter(self, name: str) -> None:
        self.active_adapter = name


class ByMethod(Wrapped):
    """Tells its active adapters by a method, as transformers does."""

    def active_adapters(self) -> list[str]:
        return ["a", "b"]


class ByProperty(Wrapped):
    """Tells its active adapters by a property, as PEFT does."""

    @property
    def active_adapters(self) -> list[str]:
        return ["a", "b"]


class Unloaded(Wrapped):
    """Raises where transformers does."""

    def active_adapters(self) -> list[str]:
        raise ValueError("No adapter loaded. Please load an adapter first.")


def config_with(**attributes: Any) -> Any:
    """An object that is no mapping and holds names."""
    return SimpleNamespace(**attributes)
