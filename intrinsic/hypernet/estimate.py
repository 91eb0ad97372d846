"""What a hypernetwork will take, known before it is built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from intrinsic.hypernet.network import HyperNetwork
from intrinsic.hypernet.targets import TargetShape


@dataclass(frozen=True, slots=True)
class Estimate:
    """Sizes of a hypernetwork, and what one query costs.

    `bytes_of_weights` are those of its parameters in float32, `payload_bytes` those of what
    differs from query to query, `factor_bytes` those of a generated adapter. `multiply_adds` are of
    the matrix products of one generation.
    """

    parameters: int
    payload_bytes: int
    bytes_of_weights: int
    factor_bytes: int
    multiply_adds: int


def estimate(
    targets: Sequence[TargetShape],
    embed_dim: int,
    rank: int = 8,
    architecture: str = "core",
    **options: Any,  # noqa: ANN401 - each architecture has its own
) -> Estimate:
    """Work sizes and cost out on the meta device: nothing is allocated, nothing computed.

    Raises `ConfigError` as `HyperNetwork` does.
    """
    with torch.device("meta"):
        network = HyperNetwork(targets, embed_dim, rank, architecture=architecture, **options)
        network.requires_grad_(False)
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(embed_dim))
    return Estimate(
        parameters=network.num_parameters,
        payload_bytes=network.payload_bytes,
        bytes_of_weights=4 * network.num_parameters,
        factor_bytes=4 * rank * sum(t.in_features + t.out_features for t in network.targets),
        multiply_adds=counter.get_total_flops() // 2,
    )
