"""Tasks as token ids, and the batches that a step learns from."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from intrinsic.backends.prompt import ChatMessage
from intrinsic.errors import BackendError, ConfigError
from intrinsic.hypernet.encoders import TextEncoder
from intrinsic.hypernet.plan import HypernetPlan
from intrinsic.hypernet.tasks import Task
from intrinsic.training.lora.base import context_of, stops_of
from intrinsic.training.lora.encoding import RowEncoder
from intrinsic.training.lora.plan import LONGEST
from intrinsic.training.lora.rows import TrainingRow
from intrinsic.training.scoring import Encoded, pad_batch


@dataclass(frozen=True, slots=True)
class EncodedTask:
    """A task with its rows as ids and the embeddings of its descriptions, `(descriptions, d)`."""

    task: Task
    rows: tuple[Encoded, ...]
    embeddings: Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows query by query, as many of each: ids and labels `(queries · rows, tokens)`.

    `embeddings` is `(queries, d)`. Of a batch of `nonsense` the answers mean nothing.
    """

    ids: Tensor
    labels: Tensor
    embeddings: Tensor
    nonsense: bool = False


class TaskEncoder:
    """Encodes tasks for a model: prompts as a backend asks them, answers with their end mark."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        encoder: TextEncoder,
        max_length: int | None = None,
    ) -> None:
        reads = context_of(model) or LONGEST
        if max_length is not None and max_length > reads:
            raise ConfigError(f"--max-length is {max_length}; the model reads at most {reads}")
        self.length = max_length or min(reads, LONGEST)
        self._rows = RowEncoder(tokenizer, self.length, stops_of(model, tokenizer))
        self._encoder = encoder

    @property
    def shortened(self) -> int:
        """How many prompts have lost their beginning so far, to have `length` tokens at most."""
        return self._rows.shortened

    def check(self, tasks: Sequence[Task]) -> None:
        """Raise `ConfigError` with the task and the row that cannot be encoded."""
        for task in tasks:
            self._encoded(task)

    def tasks(self, tasks: Sequence[Task]) -> list[EncodedTask]:
        """Encode tasks. Raises `ConfigError` with the task and the row that cannot be."""
        texts = [text for task in tasks for text in task.descriptions]
        vectors = self.queries(texts)
        counts = [len(task.descriptions) for task in tasks]
        parts = torch.split(vectors, counts) if tasks else ()
        return [
            EncodedTask(task, self._encoded(task), part)
            for task, part in zip(tasks, parts, strict=True)
        ]

    def queries(self, texts: Sequence[str]) -> Tensor:
        """Embeddings `(texts, d)` of queries."""
        return torch.from_numpy(self._encoder.encode(list(texts)))

    def _encoded(self, task: Task) -> tuple[Encoded, ...]:
        found = []
        for number, (prompt, response) in enumerate(task.rows, task.first_row):
            turns = (ChatMessage(role="user", content=prompt),)
            try:
                found.append(self._rows.encode(TrainingRow(number, turns, response)))
            except BackendError as error:
                raise ConfigError(f"task {task.name!r}, row {number}: {error}") from error
        return tuple(found)


class Batches:
    """The batch of any step, from the seed and the step alone, so that a training can go on."""

    def __init__(
        self,
        tasks: Sequence[EncodedTask],
        nonsense: Tensor,
        plan: HypernetPlan,
    ) -> None:
        self._tasks = tasks
        self._nonsense = nonsense
        self._plan = plan

    def at(self, step: int) -> Batch:
        """Return the batch of a step, counted from 0."""
        plan = self._plan
        draw = random.Random(f"{plan.seed}:{step}")
        nonsense = len(self._nonsense) > 0 and draw.random() < plan.nonsense_share
        count = min(plan.tasks_per_step, len(self._tasks))
        tasks = draw.sample(self._tasks, count)
        rows = [row for task in tasks for row in _drawn(task.rows, plan.rows_per_task, draw)]
        if nonsense:
            places = [draw.randrange(len(self._nonsense)) for _ in tasks]
            embeddings = self._nonsense[places]
        else:
            embeddings = torch.stack(
                [task.embeddings[draw.randrange(len(task.embeddings))] for task in tasks]
            )
            embeddings = _blurred(embeddings, plan.embedding_noise, draw.getrandbits(63))
        return Batch(*pad_batch(rows), embeddings, nonsense)


def _blurred(embeddings: Tensor, most: float, seed: int) -> Tensor:
    """Each with noise of a length between 0 and `most` times its own, in any direction."""
    if not most:
        return embeddings
    draw = torch.Generator().manual_seed(seed)
    noise = torch.randn(embeddings.shape, generator=draw) / embeddings.shape[1] ** 0.5
    lengths = torch.rand(len(embeddings), 1, generator=draw) * embeddings.norm(dim=1, keepdim=True)
    blurred: Tensor = embeddings + most * lengths * noise
    return blurred


def _drawn(rows: Sequence[Encoded], count: int, draw: random.Random) -> list[Encoded]:
    if len(rows) >= count:
        return draw.sample(rows, count)
    return draw.choices(rows, k=count)
