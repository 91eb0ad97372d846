"""A mixture by content: which adapter versions, with which weights."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from intrinsic.errors import MixtureError


@dataclass(frozen=True, slots=True)
class Mixture:
    """A set of (adapter id, weight); its meaning is `W' = W + Σ wᵢ sᵢ Bᵢ Aᵢ`.

    Weights may be negative and need not sum to 1; an adapter of weight 0 adds nothing and is
    left out. Two mixtures of the same content are equal, in whatever order they were given.
    Raises `MixtureError` for a weight that is not finite or an adapter that is named twice.
    """

    entries: tuple[tuple[str, float], ...] = ()
    id: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for adapter, weight in self.entries:
            if not math.isfinite(weight):
                raise MixtureError(
                    f"weight of adapter {adapter!r} is {weight}; it must be a finite number"
                )
            if adapter in seen:
                raise MixtureError(
                    f"adapter {adapter!r} is named twice in one mixture; add its weights up"
                )
            seen.add(adapter)
        kept = sorted((adapter, float(weight)) for adapter, weight in self.entries if weight != 0.0)
        digest = hashlib.sha256()
        for adapter, weight in kept:
            digest.update(f"{len(adapter)}:{adapter}={weight.hex()};".encode())
        object.__setattr__(self, "entries", tuple(kept))
        object.__setattr__(self, "id", digest.hexdigest()[:16])

    @classmethod
    def of(cls, weights: Mapping[str, float] | Iterable[tuple[str, float]]) -> Mixture:
        """Build a mixture from a mapping or from pairs of adapter id and weight."""
        pairs = weights.items() if isinstance(weights, Mapping) else weights
        return cls(tuple(pairs))

    @property
    def adapters(self) -> tuple[str, ...]:
        """The adapter ids, sorted."""
        return tuple(adapter for adapter, _ in self.entries)

    def __bool__(self) -> bool:
        """Whether the mixture changes the base model at all."""
        return bool(self.entries)


BASE = Mixture()
"""The mixture of no adapters: the base model itself."""
