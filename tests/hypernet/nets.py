"""Hypernetworks for tests: tiny ones, fresh or with random parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from intrinsic.hypernet.network import HyperNetwork
from intrinsic.hypernet.targets import TargetShape

DIM = 12

SQUARES = tuple(TargetShape(f"layer.{i}", 16, 16) for i in range(3))
GROUPED_QUERY = tuple(
    TargetShape(f"model.layers.{layer}.{name}", *shape)
    for layer in range(2)
    for name, shape in {
        "self_attn.q_proj": (16, 16),
        "self_attn.k_proj": (16, 8),
        "self_attn.v_proj": (16, 8),
        "self_attn.o_proj": (16, 16),
        "mlp.up_proj": (16, 24),
        "mlp.down_proj": (24, 16),
    }.items()
)
"""The projections of a Llama with grouped-query attention, in the model's order."""


def targets_for(architecture: str) -> tuple[TargetShape, ...]:
    """Targets that an architecture takes: rectangular ones, where it may be."""
    return SQUARES if architecture == "square" else GROUPED_QUERY


def fresh(architecture: str = "core", rank: int = 3, alpha: float = 6.0) -> HyperNetwork:
    """A hypernetwork that has learned nothing."""
    torch.manual_seed(0)
    targets = targets_for(architecture)
    return HyperNetwork(targets, DIM, rank, alpha, architecture=architecture)


def shaken(network: HyperNetwork, size: float = 0.2, seed: int = 0) -> HyperNetwork:
    """The network with random parameters, so that its ΔW are not 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * size)
    return network


def queries(count: int = 3, dim: int = DIM, seed: int = 1) -> torch.Tensor:
    """Random embeddings `(count, dim)`; the first ones are the same for any count."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randn(dim, generator=generator) for _ in range(count)])


def deltas(factors: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> list[torch.Tensor]:
    """`ΔB ΔA` of every target."""
    return [B @ A for A, B in factors]
