"""The merge methods `dare` and `dare_ties`: drop values at random and rescale the others."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from intrinsic.lora.exact import exact, widened
from intrinsic.lora.merge_options import check_density
from intrinsic.lora.ties import disjoint_merge


def dare(
    deltas: Sequence[torch.Tensor],
    weights: Sequence[float],
    *,
    density: float = 0.5,
    seed: int = 0,
    module: str = "",
) -> torch.Tensor:
    """`Σ wᵢ (mᵢ ∘ ΔWᵢ) / density` with random masks mᵢ, 1 with probability `density`, else 0.

    This is DARE (Yu et al. 2024, arXiv:2311.03099). Its mean over seeds is the exact sum. A mask
    depends on `seed`, on the layer's name `module`, on the adapter's place in the mixture and on
    the shape, and on nothing else.
    """
    return exact(_dropped(deltas, weights, density, seed, module), weights)


def dare_ties(
    deltas: Sequence[torch.Tensor],
    weights: Sequence[float],
    *,
    density: float = 0.5,
    seed: int = 0,
    module: str = "",
) -> torch.Tensor:
    """DARE's dropping in the place of TIES' trimming, then its election and merge; see `ties`."""
    return disjoint_merge(_dropped(deltas, weights, density, seed, module), weights)


def drop(delta: torch.Tensor, density: float, seed: int) -> torch.Tensor:
    """Keep each value with probability `density`, divided by it, and zero the others.

    The mask is drawn on the CPU, so that every device gets the same. Raises `ConfigError` for a
    density outside (0, 1].
    """
    check_density(density)
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(delta.shape, generator=generator) < density
    return torch.where(mask.to(delta.device), delta / density, 0.0)


def _dropped(
    deltas: Sequence[torch.Tensor],
    weights: Sequence[float],
    density: float,
    seed: int,
    module: str,
) -> list[torch.Tensor]:
    return [
        drop(delta, density, _seed_of(module, place, seed))
        for place, delta in enumerate(widened(deltas, weights))
    ]


def _seed_of(module: str, place: int, seed: int) -> int:
    """A seed by content, the same in every process."""
    digest = hashlib.sha256(f"{seed}:{place}:{module}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
