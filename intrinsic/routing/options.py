"""The settings of a router."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from intrinsic.errors import ConfigError
from intrinsic.events import InjectionChannel
from intrinsic.routing.calibration import Calibration


@dataclass(frozen=True, slots=True)
class RouterOptions:
    """How a router decides; raises `ConfigError` for values outside their range.

    An adapter is chosen when its confidence reaches `threshold` and its share of the mixture
    `min_weight`. Shares are in proportion to `confidence ** (1 / weight_temperature)`: near 0 the
    best has all, far above 1 all have the same. `bm25_weight` is what a standard deviation of word
    overlap counts beside one of meaning; None leaves it to the examples. `calibration` was fitted
    to labelled queries (`intrinsic route fit`).

    Memories that say something besides the query have `memory_share` of the question together;
    `memory_weights` is what those of a channel count, 1 unless named.

    The adapter that answered last in a session gets up to `stickiness` in log-odds: less where the
    text does not point back, with every request that it did not win by itself and with time,
    nothing after `session_s`. The latest `cached_sessions` are remembered.

    The encoder has `encoder_timeout_s` per request, and until its first answer, for which it may
    have to load, `encoder_load_timeout_s`; after it overran, it is not asked again for
    `encoder_retry_s`. `cached_texts` vectors and `cached_views` sets of candidates are kept.
    """

    threshold: float = 0.5
    min_weight: float = 0.2
    weight_temperature: float = 1.0
    bm25_weight: float | None = None
    calibration: Calibration | None = None
    memory_share: float = 0.5
    memory_weights: Mapping[str, float] = field(
        default_factory=lambda: MappingProxyType({}), hash=False
    )
    stickiness: float = 2.5
    session_s: float = 900.0
    cached_sessions: int = 10_000
    encoder_timeout_s: float = 10.0
    encoder_load_timeout_s: float = 25.0
    encoder_retry_s: float = 30.0
    cached_texts: int = 65_536
    cached_views: int = 4

    def __post_init__(self) -> None:
        for name in ("threshold", "min_weight", "memory_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must lie in [0, 1]")
        for name in ("bm25_weight", "encoder_retry_s", "stickiness"):
            value = getattr(self, name)
            if value is None and name == "bm25_weight":
                continue
            if not (math.isfinite(value) and value >= 0.0):
                raise ConfigError(f"{name} is {value}; it must be a finite number, at least 0")
        for name in ("weight_temperature", "session_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ConfigError(f"{name} is {value}; it must be a finite number above 0")
        for name in ("encoder_timeout_s", "encoder_load_timeout_s"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be above 0")
        for name in ("cached_texts", "cached_views", "cached_sessions"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
        object.__setattr__(self, "memory_weights", _checked(self.memory_weights))


def _checked(weights: Mapping[str, float]) -> Mapping[str, float]:
    for channel, weight in weights.items():
        if channel not in tuple(InjectionChannel):
            known = ", ".join(InjectionChannel)
            raise ConfigError(f"memory_weights names {channel!r}; known channels: {known}")
        if not (math.isfinite(weight) and weight >= 0.0):
            raise ConfigError(
                f"memory_weights of {str(channel)!r} is {weight}; "
                "it must be a finite number, at least 0"
            )
    return MappingProxyType({str(channel): weight for channel, weight in weights.items()})
