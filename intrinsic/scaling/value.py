"""A scale as a layer keeps it: a number, or a tensor that compiled code reads in place."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    import torch

    Scale = int | float | torch.Tensor


def is_scale(value: object) -> TypeGuard[Scale]:
    """Whether a value can be a scale."""
    if isinstance(value, bool):
        return False
    return isinstance(value, int | float) or _is_tensor(value)


def kept(value: Scale) -> Scale:
    """A copy that later writes into the same tensor do not reach."""
    return value if isinstance(value, int | float) else value.detach().clone()


def times(base: Scale, factor: float) -> Scale:
    """`base * factor`, and for 1.0 the base itself, bit for bit."""
    return base if factor == 1.0 else base * factor


def filled(now: Scale, value: Scale) -> Scale:
    """What stands in place of `now`: the value, or the same tensor with the value in it."""
    if isinstance(now, int | float):
        return as_number(value)
    data = now.detach()
    if isinstance(value, int | float):
        data.fill_(value)
    else:
        data.copy_(value)
    return now


def is_finite(value: Scale) -> bool:
    """Whether a scale holds neither NaN nor infinity, nor more than a float can."""
    if isinstance(value, int | float):
        return abs(value) <= sys.float_info.max
    return bool(value.isfinite().all())


def is_same(now: Scale, value: Scale) -> bool:
    """Whether `value` is what is there `now`, as far as its dtype can hold it."""
    if isinstance(now, int | float):
        return now == as_number(value)
    return bool((now == filled(kept(now), value)).all())


def as_number(value: Scale) -> float:
    """A scale as a number; the mean where a tensor holds several."""
    return value if isinstance(value, int | float) else float(value.detach().float().mean())


def _is_tensor(value: object) -> bool:
    return all(callable(getattr(value, name, None)) for name in ("detach", "copy_", "isfinite"))
