"""How a training that was stopped by a signal ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from intrinsic.cli.output import tell
from intrinsic.training.lora.stopping import TrainingInterrupted


@contextmanager
def told_when_stopped() -> Iterator[None]:
    """Tell where a stopped training goes on, and end with the exit code of its signal."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        number = signal.SIGINT
        if isinstance(stopped, TrainingInterrupted):
            number = signal.Signals(stopped.signal_number)
            tell(f"intrinsic: {stopped}")
        else:
            tell("intrinsic: stopped; the same command goes on from the last checkpoint, if any")
        raise typer.Exit(128 + number) from None
