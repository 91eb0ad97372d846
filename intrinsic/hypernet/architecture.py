"""What every architecture of a hypernetwork is, and the table of those that are known.

embedding (n, d) ──forward──▶ payload ──expand──▶ ΔA (n|1, r, in), ΔB (n, out, r) per target
"""

from __future__ import annotations

import difflib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from intrinsic.errors import ConfigError, HypernetError
from intrinsic.hypernet.targets import TargetShape

Payload = tuple[torch.Tensor, ...]
"""What differs from query to query; every tensor has the n queries first."""

TargetFactors = list[tuple[torch.Tensor, torch.Tensor]]
"""Per target, in order: ΔA `(n, r, in)`, or `(1, r, in)` where all queries share it, and ΔB
`(n, out, r)`."""


FrameFactors = list[tuple[torch.Tensor, torch.Tensor]]
"""Per target, in order: `(r, in)`, and `(out, r)`."""


class Architecture(nn.Module, ABC):
    """Turns embeddings into the factors of every target; subclasses say how.

    Promises of a subclass: `ΔB ΔA` is exactly 0 until something was learned, and a batch of n
    queries gives what n single ones give. Scale α / r is none of its business. Its options are
    keyword arguments of its constructor, plain values that JSON can hold.
    """

    def __init__(self, targets: Sequence[TargetShape], embed_dim: int, rank: int) -> None:
        super().__init__()
        self.targets = tuple(targets)
        self.embed_dim = embed_dim
        self.rank = rank

    @abstractmethod
    def forward(self, embedding: torch.Tensor) -> Payload:
        """What the queries need, from their embeddings `(n, d)`."""

    @abstractmethod
    def expand(self, payload: Payload) -> TargetFactors:
        """The factors of every target in order, from a payload."""

    @property
    @abstractmethod
    def payload_bytes(self) -> int:
        """Bytes of one query's payload in float32."""

    def frames(self) -> FrameFactors | None:
        """The learned factors where a core between them is all that a query gets, else None.

        `ΔA` is the first of a pair, and `ΔB` the second times `cores_of(payload)`. Nobody writes to
        them.
        """
        return None

    def cores_of(self, payload: Payload) -> torch.Tensor:
        """The cores of a payload, `(n, targets, r, r)`, in the targets' order.

        Raises `HypernetError` where there are none: what has `frames` defines this too.
        """
        raise HypernetError(
            f"the architecture {type(self).__name__} has no cores; define cores_of beside frames"
        )

    def norms(self, payload: Payload) -> torch.Tensor:
        """`‖ΔB ΔA‖` (Frobenius) of every target, unscaled: `(n, targets)`.

        By `‖BA‖² = tr(BᵀB AAᵀ)`, so that no ΔW is made.
        """
        squares = []
        for A, B in self.expand(payload):
            squares.append(((B.mT @ B) * (A @ A.mT)).sum((-1, -2)))
        return torch.stack(squares, dim=-1).clamp_min(0).sqrt()


ARCHITECTURES: dict[str, type[Architecture]] = {}
"""The known architectures by name."""

Registered = TypeVar("Registered", bound=type[Architecture])


def register_architecture(name: str) -> Callable[[Registered], Registered]:
    """Make a subclass of `Architecture` known as `name`.

    Raises `ConfigError` where another class has the name.
    """

    def register(architecture: Registered) -> Registered:
        known = ARCHITECTURES.get(name)
        if known is not None and known.__qualname__ != architecture.__qualname__:
            raise ConfigError(
                f"the architecture {name!r} is {known.__qualname__} already; choose another name"
            )
        ARCHITECTURES[name] = architecture
        return architecture

    return register


def build_architecture(
    name: str,
    targets: Sequence[TargetShape],
    embed_dim: int,
    rank: int,
    options: dict[str, Any],
) -> Architecture:
    """Build an architecture by name. Raises `ConfigError` for a name or an option unknown."""
    kind = ARCHITECTURES.get(name)
    if kind is None:
        near = difflib.get_close_matches(name, ARCHITECTURES, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ConfigError(
            f"architecture is {name!r}{hint}; known: {', '.join(sorted(ARCHITECTURES))}"
        )
    known = list(inspect.signature(kind).parameters)[3:]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ConfigError(
            f"the architecture {name!r} has no option {unknown[0]!r}; "
            f"it has {', '.join(known) or 'none'}"
        )
    return kind(targets, embed_dim, rank, **options)


def at_least_one(name: str, value: object) -> int:
    """Check a size. Raises `ConfigError` for what is no integer of 1 or more."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{name} is {value!r}; it must be an integer, 1 or more")
    return value
