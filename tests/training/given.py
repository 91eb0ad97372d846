"""A base model on disk and rows to train it on, small enough for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from intrinsic.training.lora.job import TrainingJob
from intrinsic.training.lora.plan import LoraPlan
from intrinsic.training.lora.progress import Progress
from tests.tiny import llama, tokenizer

ROWS = [{"prompt": f"say {n} times, please", "response": f"it is {n}"} for n in range(24)]
PLAN = LoraPlan(
    rank=4, learning_rate=1e-2, batch_tokens=160, epochs=3, every=4, dropout=0.1, device="cpu"
)


class Killed(BaseException):
    """Stands for a process that ends without a word."""


class KillAt(Progress):
    """Ends the training the moment that a step is done."""

    def __init__(self, step: int) -> None:
        self._step = step

    def stepped(self, step: int, steps: int) -> None:
        if step == self._step:
            raise Killed


class Told(Progress):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps: list[int] = []
        self.losses: list[float] = []
        self.held_out: dict[int, float] = {}
        self.best: list[int] = []
        self.checkpoints: list[int] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def stepped(self, step: int, steps: int) -> None:
        self.steps.append(step)

    def learned(self, step: int, loss: float) -> None:
        self.losses.append(loss)

    def validated(self, step: int, loss: float, *, best: bool) -> None:
        self.held_out[step] = loss
        if best:
            self.best.append(step)

    def kept(self, step: int, checkpoint: Path) -> None:
        self.checkpoints.append(step)


def write_rows(path: Path, rows: Sequence[Any] = ROWS) -> Path:
    """Write rows as JSON lines; texts stand as they are."""
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def write_base(folder: Path, model: Any = None, *, chat: bool = True) -> Path:
    """Write a tiny model with its tokenizer."""
    (model or llama()).save_pretrained(folder)
    tokenizer(chat=chat).save_pretrained(folder)
    return folder


def job_in(folder: Path, **changed: Any) -> TrainingJob:
    """Train adapter `mine` with `folder/base` and `folder/rows.jsonl` to `folder/mine`."""
    job = TrainingJob(
        base=str(folder / "base"), data=folder / "rows.jsonl", name="mine", out=folder / "mine"
    )
    return replace(job, **changed)
