"""One training of the hypernetwork's benchmark and its scores, each in a process of its own."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks._hypernet_guards import guards
from benchmarks._hypernet_setting import ALPHA, LEARNED, RANK, SCORED, Setting, Sizes
from benchmarks._hypernet_table import Names, Same, table_of
from benchmarks._hypernet_tasks import Composed, Split
from intrinsic.hypernet.course import Course
from intrinsic.hypernet.encoded import TaskEncoder
from intrinsic.hypernet.loop import train
from intrinsic.hypernet.network import HyperNetwork
from intrinsic.hypernet.plan import HypernetPlan
from intrinsic.hypernet.scores import TaskScore, score_tasks
from intrinsic.hypernet.targets import targets_of
from intrinsic.hypernet.tasks import Task

FEW, FEW_STEPS, FEW_TASKS = 8, 10, 16
FEW_RATES = {"generated": 7e-4, "scratch": 1e-2}
"""Found on validation pairs: what is near the answer already is lost at higher ones."""
MULTI_TASK = "multi_task"
DEFAULT = "core"
RATES: Mapping[str, float] = {"shared_heads": 5e-4, "per_rank": 5e-4, "heads": 5e-4}
"""Learning rates of those that need another than the default's, found on validation pairs."""
BUILT: Mapping[str, tuple[str, Mapping[str, Any]]] = {"core_gelu": ("core", {"linear": False})}
"""Architecture and options of what is not an architecture's own default."""


@dataclass(frozen=True)
class Job:
    """A split, an architecture and a seed; `is_default` asks for all that is measured of one."""

    split: int
    architecture: str
    seed: int
    sizes: Sizes
    cache: Path
    encoder: str
    is_default: bool = False

    @property
    def steps(self) -> int:
        """How long it is trained."""
        return self.sizes.steps if self.is_default else self.sizes.other_steps

    def setting(self) -> Setting:
        """What it is trained in, with one thread."""
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        torch.set_num_threads(1)
        return Setting(Split(self.split), self.cache, self.sizes, self.encoder)


@dataclass(frozen=True)
class Ends:
    """Mean losses of the oracles: of unseen pairs, and of the skill that the base does not have."""

    pairs: float
    new_skill: float

    def of(self, part: str) -> float:
        """The oracle's loss for a part."""
        return self.new_skill if part.startswith("new_skill") else self.pairs


def prepare(job: Job) -> tuple[Ends, dict[str, Any]]:
    """The split's base and oracles: what is the bottom and the top of every share."""
    setting = job.setting()
    found = setting.oracles
    ends = Ends(loss_of(found.own), loss_of(found.new_skill))
    names = {one.name for one in found.own}
    bare = [one for one in setting.bare["unseen_pair"] if one.name in names]
    figures = {
        "bare": _table(setting.bare),
        "prompted": _table(setting.prompted),
        "oracle": {"loss": ends.pairs, "accuracy": accuracy_of(found.own)},
        "oracle_new_skill": {"loss": ends.new_skill, "accuracy": accuracy_of(found.new_skill)},
        "nearest_adapter": {
            "recovered": share(loss_of(bare), loss_of(found.nearest), ends.pairs),
            "accuracy": accuracy_of(found.nearest),
        },
        "prompted_recovered": {
            part: share(loss_of(setting.bare[part]), loss_of(scores), ends.of(part))
            for part, scores in setting.prompted.items()
        },
    }
    _say(f"split {job.split}: base and oracles")
    return ends, figures


def measure(job: Job, ends: Ends) -> dict[str, Any]:
    """Train one network and score every part."""
    started = time.perf_counter()
    setting = job.setting()
    network, course = _course(job, setting)
    unasked = job.architecture == MULTI_TASK
    plan = HypernetPlan(
        steps=job.steps,
        seed=job.seed,
        every=job.steps,
        tasks_per_step=job.sizes.tasks_per_step,
        rows_per_task=job.sizes.rows_per_task,
        learning_rate=RATES.get(job.architecture, job.sizes.learning_rate),
        embedding_noise=0.0,
        nonsense_share=0.0 if unasked else 0.06,
    )
    train(course, plan)
    spent = time.perf_counter() - started
    encoder = TaskEncoder(setting.model, setting.words, course.encoder)
    parts: dict[str, Any] = {}
    for part, tasks in setting.parts.items():
        asked = encoder.tasks([one.task for one in tasks])
        found = score_tasks(setting.model, network, asked, descriptions=2)
        loss = loss_of(found)
        bare = loss_of(setting.bare[part])
        parts[part] = {
            "recovered": share(bare, loss, ends.of(part)),
            "loss": loss,
            "accuracy": accuracy_of(found),
        }
    result: dict[str, Any] = {
        "split": job.split,
        "seed": job.seed,
        "architecture": job.architecture,
        "parameters": network.num_parameters,
        "train_s": spent,
        "parts": parts,
    }
    if job.is_default:
        result |= few_shot(setting, network) | guards(setting, network)
    shown = {part: round(parts[part]["recovered"], 2) for part in ("validation", "unseen_pair")}
    _say(f"split {job.split} {job.architecture} seed {job.seed}: {shown} {spent:.0f} s")
    return result


def few_shot(setting: Setting, network: HyperNetwork) -> dict[str, Any]:
    """Eight examples and ten steps, from generated weights and from scratch."""
    source = random.Random(f"few {setting.split.number}")
    held_out = source.sample(setting.split.unseen_pair, FEW_TASKS)
    unknown = source.sample(setting.split.unknown, FEW_TASKS)
    return {
        "few_shot": {
            "unseen_pair": _few(setting, network, held_out),
            "unknown": _few(setting, network, unknown),
        }
    }


def _few(setting: Setting, network: HyperNetwork, tasks: Sequence[Composed]) -> dict[str, float]:
    said = [task.descriptions(1, SCORED, new=True)[0] for task in tasks]
    with torch.no_grad():
        given = network(setting.encoder.encode(said))
    fresh = HyperNetwork(network.targets, len(tasks), RANK, ALPHA, architecture="table")
    starts = {"generated": table_of(given, network), "scratch": fresh}
    names = Names([task.name for task in tasks])
    encoder = TaskEncoder(setting.model, setting.words, names)
    rows = setting.sizes.scored_rows
    asked = encoder.tasks([Task(t.name, (t.name,), t.rows(rows, SCORED)) for t in tasks])
    found = {}
    for name, start in starts.items():
        found[f"{name}_before"] = accuracy_of(score_tasks(setting.model, start, asked))
        few = [Task(t.name, (t.name,), t.rows(FEW, LEARNED)) for t in tasks]
        plan = HypernetPlan(
            steps=FEW_STEPS,
            tasks_per_step=len(tasks),
            rows_per_task=FEW,
            learning_rate=FEW_RATES[name],
            embedding_noise=0.0,
            nonsense_share=0.0,
        )
        train(Course(setting.model, setting.words, start, names, few), plan)
        found[name] = accuracy_of(score_tasks(setting.model, start, asked))
    return found


def loss_of(scores: Sequence[TaskScore]) -> float:
    """Mean loss over tasks, in nats per answer token."""
    return sum(one.loss for one in scores) / len(scores)


def accuracy_of(scores: Sequence[TaskScore]) -> float:
    """Share of answers that greedy generation gets right to the last sign.

    They are those in which every sign, and the end, is the likeliest after the right ones before.
    """
    return sum(one.row_accuracy for one in scores) / len(scores)


def share(bare: float, found: float, oracle: float) -> float:
    """How much of the oracle's gain over the bare model is recovered, in percent."""
    return 100 * (bare - found) / (bare - oracle)


def _course(job: Job, setting: Setting) -> tuple[HyperNetwork, Course]:
    if job.architecture != MULTI_TASK:
        architecture, options = BUILT.get(job.architecture, (job.architecture, {}))
        network = setting.network(architecture, job.seed, **options)
        return network, setting.course(network)
    torch.manual_seed(job.seed)
    network = HyperNetwork(targets_of(setting.model), 1, RANK, ALPHA, architecture="table")
    return network, Course(setting.model, setting.words, network, Same(), setting.learned)


def _table(scores: Mapping[str, Sequence[TaskScore]]) -> dict[str, Any]:
    return {
        part: {"loss": loss_of(found), "accuracy": accuracy_of(found)}
        for part, found in scores.items()
    }


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", file=sys.stderr, flush=True)
