"""Modes of torch that what an engine keeps must not inherit from its caller."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

_AUTOCAST = ("cpu", "cuda", "mps", "xpu")


@contextmanager
def ordinary() -> Iterator[None]:
    """Make tensors that may be used and changed in any mode later: not those of inference mode."""
    with torch.inference_mode(False), torch.no_grad():
        yield


@contextmanager
def full_precision() -> Iterator[None]:
    """Multiply matrices in their own dtype, also where the caller is under `torch.autocast`."""
    with ExitStack() as stack:
        for device in _AUTOCAST:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield
