"""What a hypernetwork is trained with, and what the training made of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from intrinsic.engine.fingerprint import fingerprint
from intrinsic.errors import ConfigError
from intrinsic.hypernet.curves import History
from intrinsic.hypernet.encoders import TextEncoder
from intrinsic.hypernet.network import HyperNetwork
from intrinsic.hypernet.nonsense import nonsense_queries
from intrinsic.hypernet.plan import HypernetPlan
from intrinsic.hypernet.tasks import Task, digest_of
from intrinsic.registry.inspection import digest_of as files_digest

NONSENSE = 512
"""How many queries that mean nothing are made, where none are given."""


@dataclass(frozen=True, slots=True)
class Course:
    """A model with its tokenizer, a network for it, the encoder of queries, and the tasks.

    `validation` are tasks to choose the best step by, never learned; `nonsense` the queries that
    mean none of the tasks, made up where left out; `adapters` the stored adapter of a task, by its
    name, for the warm-up. Raises `ConfigError` for an encoder of another size and unknown names.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    network: HyperNetwork
    encoder: TextEncoder
    tasks: Sequence[Task]
    validation: Sequence[Task] = ()
    nonsense: Sequence[str] | None = None
    adapters: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ConfigError("there is no task to learn; give at least one")
        if self.encoder.dimension != self.network.embed_dim:
            raise ConfigError(
                f"the encoder {self.encoder.name} gives {self.encoder.dimension} numbers and the "
                f"hypernetwork takes {self.network.embed_dim}; give both the same"
            )
        unknown = sorted(self.adapters.keys() - {task.name for task in self.tasks})
        if unknown:
            raise ConfigError(f"an adapter is given for the task {unknown[0]!r}, which is none")

    def foreign(self, seed: int) -> list[str]:
        """The queries that mean none of the tasks."""
        return nonsense_queries(NONSENSE, seed) if self.nonsense is None else list(self.nonsense)

    def identity(self, plan: HypernetPlan) -> dict[str, Any]:
        """What two runs must share for one to go on from the other's checkpoints."""
        nonsense = json.dumps(self.foreign(plan.seed)).encode()
        return plan.as_json() | {
            "network": self.network.describe(),
            "targets": [target.name for target in self.network.targets],
            "encoder": self.encoder.name,
            "base": fingerprint(self.model),
            "tasks": digest_of(self.tasks),
            "validation": digest_of(self.validation),
            "nonsense": hashlib.sha256(nonsense).hexdigest(),
            "adapters": {n: files_digest(path) for n, path in sorted(self.adapters.items())},
        }


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training did: its network has the weights of `best_step`, the last one made without
    validation tasks.

    Losses are in nats per answer token; `train_loss` is the mean of the last 20 steps.
    """

    steps: int
    best_step: int
    train_loss: float | None
    validation_loss: float | None
    history: History
    resumed_from: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return plain values, the history left out."""
        return {
            "steps": self.steps,
            "best_step": self.best_step,
            "train_loss": self.train_loss,
            "validation_loss": self.validation_loss,
            "resumed_from": self.resumed_from,
            "seconds": self.seconds,
        }
