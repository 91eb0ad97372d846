"""What hypernetwork is to be trained, on which tasks, and where to."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from intrinsic.errors import ConfigError
from intrinsic.hypernet.tasks import Task, chosen

LEARNED, VALIDATION, HELD_OUT = "train", "validation", "test"
_SPLITS = ("", LEARNED, VALIDATION, HELD_OUT)
_NO_OPTIONS = frozenset(("self", "targets", "embed_dim", "rank", "alpha", "architecture"))


@dataclass(frozen=True, slots=True)
class HypernetJob:
    """A base model, a folder of described tasks, the network's shape, and the folder to write.

    `options` are the architecture's own. `held_out` tasks are never learned and never chosen by, as
    those that the folder's index calls `test`. `validation` tasks choose the best step, as those it
    calls `validation`; where there are none, `validation_share` of the others are drawn. The last
    `held_rows` rows of each learned task are not learned, but never more than half of them.
    `adapters` has a stored adapter for some of the tasks, in a folder of the task's name each, for
    the warm-up. The gate may refuse `refuse_good` of the descriptions to refuse more nonsense.
    """

    base: str
    data: Path
    out: Path
    encoder: str = "hashed-stems"
    architecture: str = "core"
    options: Mapping[str, Any] = field(default_factory=dict)
    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    validation_share: float = 0.1
    held_rows: int = 32
    adapters: Path | None = None
    refuse_good: float = 0.01
    resume: bool = True
    force: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.validation_share < 1:
            raise ConfigError(
                f"--validation-share is {self.validation_share!r}; it must be at least 0 and less "
                "than 1"
            )
        if not 0 <= self.refuse_good < 1:
            raise ConfigError(
                f"--refuse-good is {self.refuse_good!r}; it must be at least 0 and less than 1"
            )
        if self.held_rows < 0:
            raise ConfigError(f"--held-rows is {self.held_rows!r}; it must be at least 0")
        own = sorted(self.options.keys() & _NO_OPTIONS)
        if own:
            raise ConfigError(f"--option: {own[0]!r} is no option of an architecture")

    def stored(self, tasks: Sequence[Task]) -> dict[str, Path]:
        """The stored adapters of these tasks by name. Raises `ConfigError` where there are none."""
        if self.adapters is None:
            return {}
        folder = home_of(self.adapters)
        found = {task.name: folder / task.name for task in tasks if (folder / task.name).is_dir()}
        if not found:
            raise ConfigError(
                f"{folder} has no adapter of a task that is learned; name each one's folder as its "
                f"task, such as {folder / tasks[0].name}"
            )
        return found


@dataclass(frozen=True, slots=True)
class Parts:
    """Tasks by what they are for; `unseen_rows` are the learned tasks with rows kept back."""

    learned: tuple[Task, ...]
    unseen_rows: tuple[Task, ...]
    validation: tuple[Task, ...]
    held_out: tuple[Task, ...]

    def names(self) -> dict[str, list[str]]:
        """The names of each part, as plain values."""
        parts = {LEARNED: self.learned, VALIDATION: self.validation, HELD_OUT: self.held_out}
        return {part: [task.name for task in tasks] for part, tasks in parts.items()}


def parted(tasks: Sequence[Task], job: HypernetJob, seed: int) -> Parts:
    """Part the tasks as the job says. Raises `ConfigError` for names and splits unknown, tasks in
    two parts, and fewer than two that are left to learn.
    """
    for task in tasks:
        if task.split not in _SPLITS:
            raise ConfigError(
                f"the task {task.name!r} has the split {task.split!r}; known: "
                f"{', '.join(_SPLITS[1:])}"
            )
    held = {task.name for task in (*chosen(tasks, job.held_out), *_of(tasks, HELD_OUT))}
    validation = {task.name for task in (*chosen(tasks, job.validation), *_of(tasks, VALIDATION))}
    both = sorted(held & validation)
    if both:
        raise ConfigError(f"the task {both[0]!r} is both held out and for validation; choose one")
    others = [task.name for task in tasks if task.name not in held | validation]
    if not validation:
        count = math.ceil(job.validation_share * len(others))
        validation = set(random.Random(seed).sample(others, count))
    pairs = [kept_back(task, job.held_rows) for task in tasks if task.name not in held | validation]
    learned = [first for first, _ in pairs]
    if len(learned) < 2:
        raise ConfigError(
            f"of {len(tasks)} tasks {len(held)} are held out, {len(validation)} are for validation "
            f"and {len(learned)} left to learn; a hypernetwork needs two at the least, and "
            "generalises from a hundred on"
        )
    return Parts(
        tuple(learned),
        tuple(kept for _, kept in pairs if kept is not None),
        tuple(task for task in tasks if task.name in validation),
        tuple(task for task in tasks if task.name in held),
    )


def home_of(path: Path) -> Path:
    """The path with the user's home in it. Raises `ConfigError` where nobody is called so."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{path} cannot be found: {error}") from None


def kept_back(task: Task, count: int) -> tuple[Task, Task | None]:
    """The task with the rows to learn, and with its last `count`, at most half of all."""
    count = min(count, len(task.rows) // 2)
    cut = len(task.rows) - count
    return task.cut_at(cut) if count else (task, None)


def _of(tasks: Sequence[Task], split: str) -> list[Task]:
    return [task for task in tasks if task.split == split]
