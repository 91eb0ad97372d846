"""How a hypernetwork answers beside the stored adapters."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from intrinsic.errors import ConfigError
from intrinsic.hypernet.check import MARGIN, Example
from intrinsic.selection import RouteContext

ExampleOf = Callable[[str, RouteContext], Example | None]
"""From a query and its context to one solved example of what is asked; None where there is none."""


@dataclass(frozen=True, slots=True)
class ExpertOptions:
    """When a generated adapter answers, how strongly, and how many are kept.

    It answers where no stored adapter was chosen, or, with `prefer`, in place of those. `weight` is
    its weight in the mixture. What changes a layer by more than `max_relative_norm` of its weights'
    size is refused, whatever the gate's own bound. `example_of` turns on the check on one example;
    a query without an example is not checked. `margin` is by how many nats per token the loss must
    fall at least, `margin_share` by which share of what it is without the weights: None is what was
    found for the network in training, or a fifth.

    `max_cached` adapters stay registered and in host memory, and those that requests hold: take it
    larger than the number of requests at a time, or one may lose its adapter before it begins.
    `max_cache_bytes` of generated weights are kept for the same queries to come. Raises
    `ConfigError`.
    """

    prefer: bool = False
    weight: float = 1.0
    max_relative_norm: float | None = None
    example_of: ExampleOf | None = None
    margin: float = MARGIN
    margin_share: float | None = None
    max_cached: int = 32
    max_cache_bytes: int = 64 * 2**20

    def __post_init__(self) -> None:
        bound = self.max_relative_norm
        if not _is_finite(self.weight):
            raise ConfigError(f"weight is {self.weight!r}; it must be a finite number")
        if bound is not None and not (_is_finite(bound) and bound > 0):
            raise ConfigError(f"max_relative_norm is {bound!r}; it must be above 0, or None")
        if not (_is_finite(self.margin) and self.margin >= 0):
            raise ConfigError(f"margin is {self.margin!r}; it must be 0 or more nats per token")
        share = self.margin_share
        if share is not None and not (_is_finite(share) and 0 <= share < 1):
            raise ConfigError(f"margin_share is {share!r}; it must be from 0 to below 1, or None")
        for name, least in (("max_cached", 1), ("max_cache_bytes", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError(f"{name} is {value!r}; it must be an integer, {least} or more")


def _is_finite(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)  # type: ignore[arg-type]
