"""Described tasks for the tiny Llama: the answer is a letter that the description alone says."""

from __future__ import annotations

from typing import Any

import torch

from intrinsic.hypernet.course import Course
from intrinsic.hypernet.encoders import HashedWords
from intrinsic.hypernet.network import HyperNetwork
from intrinsic.hypernet.plan import HypernetPlan
from intrinsic.hypernet.targets import targets_of
from intrinsic.hypernet.tasks import Task
from tests.tiny import llama, tokenizer

DIMENSION = 64
PLAN = HypernetPlan(
    steps=12, tasks_per_step=4, rows_per_task=2, learning_rate=3e-3, every=4, validation_rows=2
)


def task(letter: str) -> Task:
    """Answer every prompt with one letter."""
    descriptions = (f"say {letter}", f"{letter} {letter} please")
    return Task(f"say-{letter}", descriptions, tuple((f"{n} ?", letter) for n in range(4)))


TASKS = tuple(map(task, "abcdef"))


def model() -> Any:
    """The tiny Llama with a head that can tell letters apart, so that it can be taught."""
    made = llama()
    with torch.no_grad():
        made.lm_head.weight.mul_(20)
    return made


def network(seed: int = 0, architecture: str = "core", **options: Any) -> HyperNetwork:
    """A small network for the tiny Llama."""
    torch.manual_seed(seed)
    targets = targets_of(llama())
    return HyperNetwork(targets, DIMENSION, 4, 8.0, architecture=architecture, **options)


def course(**changed: Any) -> Course:
    """Teach the six tasks, four of which say which step is best."""
    given: dict[str, Any] = {
        "model": model(),
        "tokenizer": tokenizer(),
        "network": network(),
        "encoder": HashedWords(DIMENSION),
        "tasks": TASKS,
        "validation": TASKS[:4],
    }
    return Course(**(given | changed))
