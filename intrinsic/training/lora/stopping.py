"""Ctrl-C during a training: the step is finished and kept, a second one ends at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


class TrainingInterrupted(KeyboardInterrupt):
    """Raised when a training was stopped by a signal after `step`; `checkpoint` goes on from it."""

    def __init__(self, step: int, checkpoint: Path, signal_number: int) -> None:
        super().__init__(
            f"stopped at step {step}, which is kept in {checkpoint}; the same command goes on there"
        )
        self.step = step
        self.checkpoint = checkpoint
        self.signal_number = signal_number


class StopRequest:
    """Whether the training shall stop after the running step, and by which signal."""

    signal_number: int | None = None

    def __bool__(self) -> bool:
        """Whether somebody asked."""
        return self.signal_number is not None


@contextmanager
def on_signals() -> Iterator[StopRequest]:
    """While it is open, the first SIGINT or SIGTERM is a request, the next ends at once.

    In a thread other than the main one signals are left alone.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if request:
            raise KeyboardInterrupt
        request.signal_number = number

    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    former = {n: handler for n, handler in former.items() if handler not in (None, signal.SIG_IGN)}
    for number in former:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
