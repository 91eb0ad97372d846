"""Memory that ran out: the answer is a smaller batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

_T = TypeVar("_T")

_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
"""What torch says in a RuntimeError where memory ends; on a CPU it has no class for it."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(w in str(error).lower() for w in _WORDS)


def in_halves(
    run: Callable[[Sequence[_T]], np.ndarray[Any, Any]],
    rows: Sequence[_T],
    shrunk: Callable[[Sequence[_T]], object],
) -> np.ndarray[Any, Any]:
    """What `run` gives for `rows`, all at once or, where memory does not suffice, half by half.

    `shrunk` is told which rows were too many. The error is raised where one row is.
    """
    try:
        return run(rows)
    except Exception as error:
        if len(rows) == 1 or not is_out_of_memory(error):
            raise
    # Only out here has the error let go of the tensors that were made before it.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    shrunk(rows)
    middle = len(rows) // 2
    parts = [in_halves(run, half, shrunk) for half in (rows[:middle], rows[middle:])]
    return np.concatenate(parts)
