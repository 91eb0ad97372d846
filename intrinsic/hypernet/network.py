"""The hypernetwork: from an embedding to the LoRA factors of every target, checked at the door."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

import intrinsic.hypernet.architectures  # noqa: F401 - they make themselves known
from intrinsic.engine.fingerprint import fingerprint
from intrinsic.errors import ConfigError, HypernetError
from intrinsic.hypernet.architecture import Payload, at_least_one, build_architecture
from intrinsic.hypernet.targets import TargetShape

Embedding = torch.Tensor | npt.NDArray[np.float32]


class HyperNetwork(nn.Module):
    """Generates `ΔA (r, in)` and `ΔB (out, r)` for every target from an embedding, in one pass.

    The update is `W' = W + (α / r) ΔB ΔA`; it is exactly 0 until something was learned. What
    `forward` gives is unscaled: whoever applies it multiplies with `scale`, once. `options` are
    those of the architecture. Raises `ConfigError` for settings that are not valid.
    """

    def __init__(
        self,
        targets: Sequence[TargetShape],
        embed_dim: int,
        rank: int = 8,
        alpha: float = 16.0,
        *,
        architecture: str = "core",
        **options: Any,  # noqa: ANN401 - each architecture has its own
    ) -> None:
        super().__init__()
        self.targets = check_targets(targets)
        self.embed_dim = at_least_one("embed_dim", embed_dim)
        self.rank = _rank(rank, self.targets)
        self.alpha = _positive("alpha", alpha)
        self.architecture = architecture
        self.options = dict(options)
        self.body = build_architecture(architecture, self.targets, embed_dim, rank, self.options)

    @classmethod
    def from_dimensions(
        cls,
        input_dim: int,
        model_hidden_dim: int,
        lora_rank: int,
        num_target_layers: int,
        bottleneck_dim: int,
        *,
        alpha: float = 16.0,
    ) -> HyperNetwork:
        """The plain constructor: so many square layers `layer.0`, `layer.1`, ... of one size."""
        size = at_least_one("model_hidden_dim", model_hidden_dim)
        layers = at_least_one("num_target_layers", num_target_layers)
        return cls(
            [TargetShape(f"layer.{i}", size, size) for i in range(layers)],
            input_dim,
            lora_rank,
            alpha,
            architecture="square",
            bottleneck_dim=bottleneck_dim,
        )

    def forward(self, embedding: Embedding) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """ΔA and ΔB of every target, in order, unscaled.

        Shape: embedding `(d,)` to `(r, in)` and `(out, r)`; `(n, d)` to `(n, r, in)` and
        `(n, out, r)`, where ΔA may be one matrix seen n times. Raises `HypernetError` for another
        size, and for values that are not finite.
        """
        embedding = self.checked(embedding)
        generated = self.expand(self.body(embedding.reshape(-1, self.embed_dim)))
        if embedding.dim() == 1:
            return [(A[0], B[0]) for A, B in generated]
        return [(A.expand(len(B), -1, -1), B) for A, B in generated]

    def payload(self, embedding: Embedding) -> Payload:
        """What differs from query to query, for `(d,)` or `(n, d)`; raises as `forward` does."""
        payload: Payload = self.body(self.checked(embedding).reshape(-1, self.embed_dim))
        return payload

    def expand(self, payload: Payload) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """ΔA `(n|1, r, in)` and ΔB `(n, out, r)` of every target, in order, unscaled."""
        return self.body.expand(payload)

    @property
    def scale(self) -> float:
        """α / r, with which `ΔB ΔA` is to be multiplied where it is applied, and nowhere else."""
        return self.alpha / self.rank

    @property
    def num_parameters(self) -> int:
        """How many numbers are learned."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def payload_bytes(self) -> int:
        """Bytes of what differs from query to query, in float32."""
        return self.body.payload_bytes

    def describe(self) -> dict[str, object]:
        """Sizes and settings as plain values."""
        return {
            "architecture": self.architecture,
            "options": dict(self.options),
            "parameters": self.num_parameters,
            "payload_bytes": self.payload_bytes,
            "targets": len(self.targets),
            "embed_dim": self.embed_dim,
            "rank": self.rank,
            "alpha": self.alpha,
        }

    def fingerprint(self) -> str:
        """SHA-256 over settings, targets and every parameter's bytes, in hex."""
        targets = [(t.name, t.in_features, t.out_features) for t in self.targets]
        settings = json.dumps([self.describe(), targets], sort_keys=True)
        return hashlib.sha256(f"{settings}{fingerprint(self)}".encode()).hexdigest()

    def checked(self, embedding: Embedding) -> torch.Tensor:
        """The embedding in the network's own dtype and place; raises as `forward` does."""
        own = next(self.parameters())
        found = torch.as_tensor(embedding).to(own.device, own.dtype)
        if found.dim() not in (1, 2) or found.shape[-1] != self.embed_dim or not found.numel():
            raise HypernetError(
                f"the embedding has the shape {tuple(found.shape)}; this hypernetwork takes "
                f"({self.embed_dim},) or (n, {self.embed_dim}): use the encoder that it was "
                "trained with"
            )
        if not found.is_meta and not torch.isfinite(found).all():
            raise HypernetError(
                "the embedding holds NaN or infinite values; check the encoder and its input"
            )
        return found


def check_targets(targets: Sequence[TargetShape]) -> tuple[TargetShape, ...]:
    """Raise `ConfigError` where there is no target, or one comes twice."""
    names = [target.name for target in targets]
    if not names:
        raise ConfigError("a hypernetwork needs at least one target; see targets_of(model)")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"the target {twice[0]!r} is given twice; give every layer once")
    return tuple(targets)


def _rank(rank: int, targets: Sequence[TargetShape]) -> int:
    """Raise `ConfigError` for a rank that is none, or wider than every layer."""
    found = at_least_one("rank", rank)
    widest = max(max(target.in_features, target.out_features) for target in targets)
    if found > widest:
        raise ConfigError(f"rank is {found}; no layer is wider than {widest}: give a smaller one")
    return found


def _positive(name: str, value: object) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:  # type: ignore[arg-type, operator]
        raise ConfigError(f"{name} is {value!r}; it must be a finite number above 0")
    return float(value)  # type: ignore[arg-type]
