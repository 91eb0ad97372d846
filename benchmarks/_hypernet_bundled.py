"""A hypernetwork for the bundled language model, over short tasks that are described in words."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks._hypernet_setting import ALPHA, RANK
from benchmarks._hypernet_table import Names, Same
from intrinsic.bundled import BUNDLED_NAME
from intrinsic.hypernet.course import Course
from intrinsic.hypernet.encoded import TaskEncoder
from intrinsic.hypernet.encoders import SentenceTexts, TextEncoder
from intrinsic.hypernet.loop import train
from intrinsic.hypernet.network import HyperNetwork
from intrinsic.hypernet.plan import HypernetPlan
from intrinsic.hypernet.scores import TaskScore, score_tasks
from intrinsic.hypernet.targets import targets_of
from intrinsic.hypernet.tasks import Task, read_tasks
from intrinsic.training.lora.base import find_base, load_base

HELD_OUT_TASKS = 6
HELD_OUT_ROWS = 32
PLAN = HypernetPlan(
    steps=600, tasks_per_step=8, rows_per_task=4, learning_rate=2e-3, nonsense_share=0.0
)


def bundled(folder: Path, steps: int) -> dict[str, Any]:
    """Loss and accuracy on rows of learned tasks that were not learned, and on unseen tasks.

    Shares are of the gain of LoRAs that were trained on each task, the unseen ones included, in as
    many steps for all of them together.
    """
    torch.set_num_threads(1)
    plan = replace(PLAN, steps=steps)
    tasks = read_tasks(folder)
    unseen = set(random.Random("bundled").sample([t.name for t in tasks], HELD_OUT_TASKS))
    halves = [task.held_out(HELD_OUT_ROWS) for task in tasks]
    seen = [learned for learned, _ in halves if learned.name not in unseen]
    asked = [scored for _, scored in halves]
    found: dict[str, Mapping[str, TaskScore]] = {}
    model, tokenizer = load_base(find_base(BUNDLED_NAME), torch.float32)
    shapes = targets_of(model)

    def learn(name: str, learned: Sequence[Task], encoder: TextEncoder, architecture: str) -> None:
        torch.manual_seed(plan.seed)
        network = HyperNetwork(shapes, encoder.dimension, RANK, ALPHA, architecture=architecture)
        noise = plan.embedding_noise if architecture == "core" else 0.0
        train(
            Course(model, tokenizer, network, encoder, learned),
            replace(plan, embedding_noise=noise),
        )
        rows = asked if name != "oracle" else _by_name(asked)
        scores = score_tasks(model, network, TaskEncoder(model, tokenizer, encoder).tasks(rows))
        found[name] = {one.name: one for one in scores}
        print(f"  bundled: {name}", file=sys.stderr, flush=True)

    for name, rows in (("bare", asked), ("prompted", [_prompted(task) for task in asked])):
        encoded = TaskEncoder(model, tokenizer, Same()).tasks(rows)
        found[name] = {one.name: one for one in score_tasks(model, None, encoded)}
    learn("multi_task", seen, Same(), "table")
    learn("oracle", _by_name([learned for learned, _ in halves]), Names(_names(tasks)), "table")
    learn("core", seen, SentenceTexts(), "core")
    return {
        "bundled": {
            "steps": steps,
            "unseen_tasks": sorted(unseen),
            "seen": _figures(found, [t.name for t in tasks if t.name not in unseen]),
            "unseen": _figures(found, sorted(unseen)),
            "tasks": {
                task.name: {who: round(scores[task.name].loss, 3) for who, scores in found.items()}
                for task in tasks
            },
        }
    }


def _figures(found: Mapping[str, Mapping[str, TaskScore]], names: Sequence[str]) -> dict[str, Any]:
    def mean(who: str, what: str) -> float:
        return sum(float(getattr(found[who][name], what)) for name in names) / len(names)

    bare, oracle = mean("bare", "loss"), mean("oracle", "loss")
    return {
        who: {
            "loss": mean(who, "loss"),
            "accuracy": mean(who, "row_accuracy"),
            "recovered": 100 * (bare - mean(who, "loss")) / (bare - oracle),
        }
        for who in found
    }


def _names(tasks: Sequence[Task]) -> list[str]:
    return [task.name for task in tasks]


def _by_name(tasks: Sequence[Task]) -> list[Task]:
    return [replace(task, descriptions=(task.name,)) for task in tasks]


def _prompted(task: Task) -> Task:
    said = task.descriptions[0]
    return task.part([(f"{said}\n{prompt}", answer) for prompt, answer in task.rows])
