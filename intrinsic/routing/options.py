"""The settings of a router."""

from __future__ import annotations

import math
from dataclasses import dataclass

from intrinsic.errors import ConfigError


@dataclass(frozen=True, slots=True)
class RouterOptions:
    """How a router decides; raises `ConfigError` for values outside their range.

    An adapter is chosen when its confidence reaches `threshold` and its share of the mixture
    `min_weight`. `bm25_weight` is what a standard deviation of word overlap counts beside one of
    meaning. The encoder has `encoder_timeout_s` per request, and until its first answer, for which
    it may have to load, `encoder_load_timeout_s`; after it overran, it is not asked again for
    `encoder_retry_s`. `cached_texts` vectors and `cached_views` sets of candidates are kept.
    """

    threshold: float = 0.5
    min_weight: float = 0.2
    bm25_weight: float = 0.15
    encoder_timeout_s: float = 10.0
    encoder_load_timeout_s: float = 25.0
    encoder_retry_s: float = 30.0
    cached_texts: int = 65_536
    cached_views: int = 4

    def __post_init__(self) -> None:
        for name in ("threshold", "min_weight"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must lie in [0, 1]")
        for name in ("bm25_weight", "encoder_retry_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise ConfigError(f"{name} is {value}; it must be a finite number, at least 0")
        for name in ("encoder_timeout_s", "encoder_load_timeout_s"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be above 0")
        for name in ("cached_texts", "cached_views"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
