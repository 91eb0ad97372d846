"""The settings of a `TransformersBackend` that loads its model; no tensor library is imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from intrinsic.errors import ConfigError

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
"""What the model computes in; "auto" is what its files hold, float32 for halves on a CPU."""

MAX_ROWS = 32


@dataclass(frozen=True, slots=True)
class TransformersOptions:
    """How a model is loaded: see `TransformersBackend.from_pretrained`. Raises `ConfigError`.

    `device` None is CUDA where there is one. Up to `max_rows` generations share a batch.
    """

    dtype: Dtype = "auto"
    device: str | None = None
    max_rows: int = MAX_ROWS

    def __post_init__(self) -> None:
        if self.dtype not in get_args(Dtype):
            raise ConfigError(f"dtype is {self.dtype!r}; valid: {', '.join(get_args(Dtype))}")
        if self.device is not None and not self.device.strip():
            raise ConfigError("device is empty; name one as 'cpu' or 'cuda:0', or leave it out")
        check_rows(self.max_rows)


def check_rows(max_rows: int) -> None:
    """Raise `ConfigError` unless it is a whole number, 1 or more."""
    if not isinstance(max_rows, int) or isinstance(max_rows, bool) or max_rows < 1:
        raise ConfigError(f"max_rows is {max_rows!r}; it must be an integer, 1 or more")
