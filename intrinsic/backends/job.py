"""One request to a model: what to answer, how, and where its pieces and its end are told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from intrinsic.backends.generation import Generation, Piece
from intrinsic.backends.options import GenerationOptions
from intrinsic.mixture import Mixture


def _nowhere(_: object) -> None: ...


def _nothing() -> None: ...


@dataclass(eq=False, slots=True)
class Job:
    """A generation to run in a worker thread, and how its caller hears of it.

    `emit` gets each piece, `end` the result or the error, once; what was emitted is told at `flush`
    or at the end. All are called in the worker thread and must not block. `cancelled` asks the
    work to end after the current step.
    """

    prompt_ids: list[int]
    mixture: Mixture
    options: GenerationOptions
    max_new_tokens: int
    emit: Callable[[Piece], None] = _nowhere
    end: Callable[[Generation | BaseException], None] = _nowhere
    flush: Callable[[], None] = _nothing
    cancelled: threading.Event = field(default_factory=threading.Event)
    started: float = field(default_factory=time.perf_counter)
