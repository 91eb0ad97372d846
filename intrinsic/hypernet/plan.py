"""The settings of a hypernetwork's training, checked before anything is read."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from intrinsic.training.lora.checks import check_number, check_whole

MOST_SEED = 2**32 - 1


@dataclass(frozen=True, slots=True)
class HypernetPlan:
    """How a hypernetwork is trained; raises `ConfigError` for a setting that is not valid.

    A step learns `rows_per_task` rows of `tasks_per_step` tasks, each under the weights of one of
    its descriptions, whose embedding is blurred by noise of up to `embedding_noise` times its
    length, as words do that nobody learned. `nonsense_share` of the steps ask with queries that
    mean none of the tasks, and pull towards the bare model with `nonsense_weight`. `warm_up_steps`
    come first, on the ΔW of given adapters. Every `every` steps the validation tasks are scored on
    `validation_rows` rows each; `patience` is how many of these in a row may bring nothing better,
    0 for any number. The learning rate rises over the first 3 % of the steps and falls to 0 as a
    cosine.
    """

    steps: int = 1500
    tasks_per_step: int = 16
    rows_per_task: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 0.0
    embedding_noise: float = 0.4
    nonsense_share: float = 0.06
    nonsense_weight: float = 1.0
    warm_up_steps: int = 0
    every: int = 100
    validation_rows: int = 8
    patience: int = 0
    max_length: int | None = None
    seed: int = 17

    def __post_init__(self) -> None:
        for name in ("steps", "tasks_per_step", "rows_per_task", "every", "validation_rows"):
            check_whole(self, name, 1)
        for name in ("warm_up_steps", "patience"):
            check_whole(self, name, 0)
        check_whole(self, "seed", 0, MOST_SEED)
        if self.max_length is not None:
            check_whole(self, "max_length", 2)
        check_number(self, "learning_rate", 0.0, open_below=True)
        for name in ("weight_decay", "embedding_noise", "nonsense_weight"):
            check_number(self, name, 0.0)
        check_number(self, "nonsense_share", 0.0, 1.0)

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        warm = max(1, round(0.03 * self.steps))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        done = (step - warm) / max(1, self.steps - warm)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
