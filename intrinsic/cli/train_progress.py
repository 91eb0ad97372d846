"""A training's progress: a bar on a terminal, lines in a pipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from intrinsic.cli.output import OurConsole, tell
from intrinsic.training.lora.progress import Progress


@contextmanager
def shown(*, quiet: bool) -> Iterator[Progress]:
    """Something to tell a training's progress to, on standard error; nothing if `quiet`."""
    console = OurConsole(stderr=True)
    if quiet:
        yield Progress()
    elif not console.is_terminal:
        yield Lines()
    else:
        bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        with bar:
            yield OnBar(bar)


class Lines(Progress):
    """A line for each validation."""

    _steps = 0
    _loss: float | None = None

    def note(self, text: str) -> None:
        tell(f"intrinsic: {text}")

    def stepped(self, step: int, steps: int) -> None:
        self._steps = steps

    def learned(self, step: int, loss: float) -> None:
        self._loss = loss

    def validated(self, step: int, loss: float, *, best: bool) -> None:
        learned = "" if self._loss is None else f"loss {self._loss:.4f}, "
        lowest = ", the lowest so far" if best else ""
        tell(f"step {step} of {self._steps}: {learned}held out {loss:.4f}{lowest}")


class OnBar(Lines):
    """A bar over the steps with the latest losses; notes and validations stand above it."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._task = bar.add_task("loading", total=None)

    def note(self, text: str) -> None:
        self._bar.console.print(f"intrinsic: {text}", markup=False, highlight=False)

    def stepped(self, step: int, steps: int) -> None:
        super().stepped(step, steps)
        self._bar.update(self._task, completed=step, total=steps)

    def learned(self, step: int, loss: float) -> None:
        super().learned(step, loss)
        self._bar.update(self._task, description=f"loss {loss:.4f}")

    def validated(self, step: int, loss: float, *, best: bool) -> None:
        lowest = ", the lowest so far" if best else ""
        self._bar.console.print(
            f"step {step}: held out {loss:.4f}{lowest}", markup=False, highlight=False
        )

    def kept(self, step: int, checkpoint: Path) -> None:
        self._bar.refresh()
