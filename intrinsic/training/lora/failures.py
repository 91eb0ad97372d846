"""What goes wrong while a model trains, in a sentence that says what to do."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError

from intrinsic.errors import AdapterError, BackendError, CapacityError
from intrinsic.training.lora.plan import LoraPlan

_FULL_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
_FULL_DISK = (
    "no space left", "os error 28", "quota exceeded", "os error 122", "file too large",
    "pytorchstreamwriter", "unexpected pos", "file write failed",
)  # fmt: skip


@contextmanager
def told_to_lower(ways: Callable[[], str], folder: Path) -> Iterator[None]:
    """Turn a full memory into a `CapacityError`, a full disk into an `AdapterError`.

    `ways` says what to lower where the memory is full, `folder` is what is written to. Anything
    else gets out as it is.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _memory(ways()) from error
    except (OSError, RuntimeError, SafetensorError) as error:
        text = str(error).lower()
        if any(words in text for words in _FULL_MEMORY):
            raise _memory(ways()) from error
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or any(words in text for words in _FULL_DISK):
            raise AdapterError(
                f"{folder} cannot be written to the end, its disk is full; free some room and run "
                "the same command again, which goes on from the last whole checkpoint"
            ) from error
        if isinstance(error, OSError):
            raise AdapterError(
                f"{folder} cannot be written: {error.strerror or error}; run the same command "
                "again once it can, which goes on from the last whole checkpoint"
            ) from error
        raise


def _memory(ways: str) -> CapacityError:
    return CapacityError(f"the memory is too small for this training; lower {ways}")


def ways_to_lower(plan: LoraPlan) -> str:
    """What makes a training on prompts and responses need less memory."""
    ways = [f"--batch-tokens (now {plan.batch_tokens})"]
    ways.append(f"--max-length (now {plan.max_length})" if plan.max_length else "--max-length")
    ways.append(f"--rank (now {plan.rank})")
    more = "" if plan.gradient_checkpointing else ", or give --gradient-checkpointing"
    if plan.dtype == "fp32":
        more += ", or --dtype bf16"
    return f"{', '.join(ways)}{more}"


def not_a_number(step: int, learning_rate: float) -> BackendError:
    """The error for a loss that is infinite or none at all."""
    return BackendError(
        f"the loss has no finite value at step {step}, the training has run away; begin anew "
        f"(--no-resume) with a lower --lr than {learning_rate:g}"
    )
