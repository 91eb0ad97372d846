"""One split's setting: its base, its tasks as a hypernetwork reads them, and what rivals score."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks._hypernet_base import base_of, prompted, tokenizer
from benchmarks._hypernet_table import Names
from benchmarks._hypernet_tasks import Composed, Split
from intrinsic.hypernet.course import Course
from intrinsic.hypernet.encoded import EncodedTask, TaskEncoder
from intrinsic.hypernet.encoders import TextEncoder, encoder_named
from intrinsic.hypernet.loop import train
from intrinsic.hypernet.network import HyperNetwork
from intrinsic.hypernet.plan import HypernetPlan
from intrinsic.hypernet.scores import TaskScore, score_tasks
from intrinsic.hypernet.targets import targets_of
from intrinsic.hypernet.tasks import Task

RANK, ALPHA = 8, 16.0
LEARNED, SCORED = 1, 2
"""Seeds of the rows to learn from and to score on."""


@dataclass(frozen=True)
class Sizes:
    """How much is done; `oracles` is how many held-out tasks get a LoRA of their own.

    `rows` are those to learn from, of each task, and `wordings` its descriptions; a step takes
    `rows_per_task` rows of `tasks_per_step` tasks.
    """

    base_steps: int = 1_600
    steps: int = 1_500
    other_steps: int = 1_500
    oracle_steps: int = 400
    oracles: int = 8
    rows: int = 96
    scored_rows: int = 16
    wordings: int = 256
    tasks_per_step: int = 64
    rows_per_task: int = 1
    learning_rate: float = 1.5e-3
    oracle_rate: float = 5e-3


QUICK = Sizes(
    base_steps=500, steps=150, other_steps=40, oracle_steps=60, oracles=4, rows=32, wordings=16
)


@dataclass
class Setting:
    """A split with its base model; `encoder` is the name of what reads the descriptions."""

    split: Split
    cache: Path
    sizes: Sizes
    encoder_name: str = "hashed-stems:1024:0"

    @cached_property
    def model(self) -> LlamaForCausalLM:
        """The base, frozen."""
        return base_of(self.split, self.cache, steps=self.sizes.base_steps)

    @cached_property
    def words(self) -> PreTrainedTokenizerFast:
        """The base's tokenizer."""
        return tokenizer()

    @cached_property
    def encoder(self) -> TextEncoder:
        """What makes vectors of descriptions."""
        return encoder_named(self.encoder_name)

    @cached_property
    def learned(self) -> tuple[Task, ...]:
        """The tasks that hypernetworks learn, in wordings for training."""
        tasks = (*self.split.trained, *self.split.new_skill_trained)
        rows, wordings = self.sizes.rows, self.sizes.wordings
        return tuple(
            Task(
                t.name,
                t.descriptions(wordings // 2, LEARNED) + t.varied(wordings // 2, LEARNED),
                t.rows(rows, LEARNED),
            )
            for t in tasks
        )

    @cached_property
    def parts(self) -> Mapping[str, list[EncodedTask]]:
        """What is scored, each with two wordings and rows that nobody learned."""
        split = self.split
        known = {
            "seen": split.trained,
            "unseen_style": split.unseen_style,
            "validation": split.validation,
            "unseen_pair": split.unseen_pair,
            "new_skill": split.new_skill,
            "unknown": split.unknown,
        }
        encoder = TaskEncoder(self.model, self.words, self.encoder)
        return {
            f"{part}{'_new_wording' * new}": encoder.tasks(
                [self.described(t, self.sizes.scored_rows, SCORED, 2, new=new) for t in tasks]
            )
            for part, tasks in known.items()
            for new in (False, True)
        }

    @cached_property
    def bare(self) -> Mapping[str, list[TaskScore]]:
        """What the base makes of the rows without a word."""
        return {part: score_tasks(self.model, None, tasks) for part, tasks in self.parts.items()}

    @cached_property
    def prompted(self) -> Mapping[str, list[TaskScore]]:
        """What the base makes of them with the description in the prompt."""
        encoder = TaskEncoder(self.model, self.words, Names(["-"]))
        found = {}
        for part, tasks in self.parts.items():
            told = [
                replace(
                    one.task,
                    descriptions=("-",),
                    rows=tuple(
                        (prompted(said, prompt), answer)
                        for said in one.task.descriptions
                        for prompt, answer in one.task.rows
                    ),
                )
                for one in tasks
            ]
            found[part] = score_tasks(self.model, None, encoder.tasks(told))
        return found

    @staticmethod
    def described(
        task: Composed, rows: int, seed: int, wordings: int, *, new: bool = False
    ) -> Task:
        """A task with so many rows and descriptions."""
        said = task.descriptions(wordings, seed, new=new)
        return Task(task.name, said, task.rows(rows, seed))

    def network(self, architecture: str, seed: int, **options: int | bool) -> HyperNetwork:
        """A fresh hypernetwork for the base."""
        torch.manual_seed(seed)
        dimension = self.encoder.dimension
        return HyperNetwork(
            targets_of(self.model), dimension, RANK, ALPHA, architecture=architecture, **options
        )

    def course(self, network: HyperNetwork, *, validated: bool = False) -> Course:
        """What a hypernetwork is trained on."""
        validation = [one.task for one in self.parts["validation"]] if validated else []
        return Course(self.model, self.words, network, self.encoder, self.learned, validation)

    @cached_property
    def oracles(self) -> Oracles:
        """A LoRA for each of some held-out tasks, and for the trained tasks nearest to them."""
        return Oracles.trained(self)


@dataclass(frozen=True)
class Oracles:
    """Scores of LoRAs that were trained for a task alone.

    `names` are the held-out tasks; `own` their oracles' scores, `nearest` those of the stored
    adapter whose description is nearest; `new_skill` of oracles for the new operation.
    """

    own: Sequence[TaskScore]
    nearest: Sequence[TaskScore]
    new_skill: Sequence[TaskScore]

    @classmethod
    def trained(cls, setting: Setting) -> Oracles:
        """Train all of them side by side."""
        source = random.Random(f"oracles {setting.split.number}")
        count = setting.sizes.oracles
        held_out = source.sample(setting.split.unseen_pair, count)
        skilled = source.sample(setting.split.new_skill, count // 2)
        near = _nearest(setting, held_out)
        wanted = list(dict.fromkeys((*held_out, *skilled, *near)))
        names = Names([task.name for task in wanted])
        torch.manual_seed(setting.split.number)
        network = HyperNetwork(
            targets_of(setting.model), names.dimension, RANK, ALPHA, architecture="table"
        )
        tasks = [_named(task, task, LEARNED, 256) for task in wanted]
        plan = HypernetPlan(
            steps=setting.sizes.oracle_steps,
            tasks_per_step=len(wanted),
            learning_rate=setting.sizes.oracle_rate,
            embedding_noise=0.0,
            nonsense_share=0.0,
        )
        train(Course(setting.model, setting.words, network, names, tasks), plan)
        encoder = TaskEncoder(setting.model, setting.words, names)
        rows = setting.sizes.scored_rows

        def scores(pairs: Sequence[tuple[Composed, Composed]]) -> list[TaskScore]:
            asked = [_named(task, adapter, SCORED, rows) for task, adapter in pairs]
            return score_tasks(setting.model, network, encoder.tasks(asked))

        return cls(
            own=scores([(task, task) for task in held_out]),
            nearest=scores(list(zip(held_out, near, strict=True))),
            new_skill=scores([(task, task) for task in skilled]),
        )


def _named(task: Composed, adapter: Composed, seed: int, rows: int) -> Task:
    """A task that is asked of the adapter of a task."""
    return Task(task.name, (adapter.name,), task.rows(rows, seed))


def _nearest(setting: Setting, tasks: Sequence[Composed]) -> list[Composed]:
    """For each task the trained one whose descriptions are the most alike."""

    def vectors(of: Sequence[Composed]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        found = [setting.encoder.encode(task.descriptions(8, LEARNED)).mean(0) for task in of]
        stacked = np.stack(found)
        unit: np.ndarray[tuple[int, int], np.dtype[np.float32]] = stacked / np.linalg.norm(
            stacked, axis=1, keepdims=True
        )
        return unit

    stored = setting.split.trained
    return [stored[at] for at in (vectors(tasks) @ vectors(stored).T).argmax(1)]
