"""The settings of a `SentenceEncoder`."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from intrinsic.errors import ConfigError
from intrinsic.routing.cache_folder import user_cache_folder

Runtime = Literal["auto", "torch", "onnx"]


def _cores() -> int:
    return min(4, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """How a `SentenceEncoder` works.

    `runtime` is what computes the vectors: "onnx" is the bundled model's int8 form, "torch" any
    model in full precision, "auto" the former where it can be had. `batch_size` texts are encoded
    at once; `threads` is for batches of the int8 form (torch has its own setting).

    `cached_texts` vectors are kept in memory by text, `disk_cached_texts` of cards' texts in
    `cache_dir`; None keeps nothing on disk. A text of more tokens than the model reads at once
    is read in pieces; if these are more than `max_pieces`, that many, spread evenly over it.
    `busy_timeout_s` bounds the wait for a model that does not get done with another's texts.

    `middle_layer` is what the bundled model's fourth layer counts beside its last, see
    `intrinsic.routing.middle_layer`; 0 gives the vectors that sentence-transformers gives. Other
    models always give theirs.
    """

    device: str = "cpu"
    runtime: Runtime = "auto"
    batch_size: int = 32
    threads: int = field(default_factory=_cores)
    cached_texts: int = 2048
    cache_dir: Path | str | None = field(default_factory=user_cache_folder)
    disk_cached_texts: int = 100_000
    max_pieces: int = 16
    busy_timeout_s: float = 60.0
    middle_layer: float = 0.5

    def __post_init__(self) -> None:
        if self.runtime not in get_args(Runtime):
            raise ConfigError(
                f"unknown runtime {self.runtime!r}; valid: {', '.join(get_args(Runtime))}"
            )
        for name, least in (
            ("batch_size", 1),
            ("threads", 1),
            ("max_pieces", 1),
            ("cached_texts", 0),
            ("disk_cached_texts", 1),
        ):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if not 0.0 <= self.middle_layer <= 1.0:
            raise ConfigError(f"middle_layer is {self.middle_layer}; it must lie in [0, 1]")
        if not self.busy_timeout_s > 0:
            raise ConfigError(f"busy_timeout_s is {self.busy_timeout_s}; it must be above 0")
