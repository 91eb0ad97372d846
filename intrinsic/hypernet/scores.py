"""What a model makes of tasks, bare or under the weights generated from their descriptions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from intrinsic.errors import ConfigError
from intrinsic.hypernet.apply import applied
from intrinsic.hypernet.encoded import EncodedTask
from intrinsic.hypernet.network import HyperNetwork
from intrinsic.training.lora.scores import answer_logits
from intrinsic.training.scoring import IGNORED, Encoded, pad_batch

_ROWS_AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class TaskScore:
    """Of a task's answer tokens, each after the right ones before it: mean loss in nats, the share
    that was likeliest, and the share of rows in which all were.
    """

    name: str
    loss: float
    token_accuracy: float
    row_accuracy: float
    rows: int

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def generated_for(
    model: PreTrainedModel, network: HyperNetwork | None, embeddings: Tensor
) -> AbstractContextManager[None]:
    """The weights of these queries `(n, d)` on the model, while it is open; None is the bare one.

    Rows lie query by query, as in `applied`.
    """
    if network is None:
        return nullcontext()
    names = [target.name for target in network.targets]
    pairs = network.expand(network.payload(embeddings))
    return applied(model, names, pairs, network.scale)


@torch.no_grad()
def score_tasks(
    model: PreTrainedModel,
    network: HyperNetwork | None,
    tasks: Sequence[EncodedTask],
    *,
    rows: int | None = None,
    descriptions: int = 1,
) -> list[TaskScore]:
    """Score each task, under the weights of its first so many descriptions, or bare without a
    network, on its first `rows` rows, or all.

    A task's figures are means over its descriptions' tokens and rows. Raises `ConfigError` for
    `rows` below 1.
    """
    if rows is not None and rows < 1:
        raise ConfigError(f"--rows is {rows}; it must be at least 1")
    queries = [
        (at, task.embeddings[nth], task.rows[:rows])
        for at, task in enumerate(tasks)
        for nth in range(min(descriptions, len(task.embeddings)) if network else 1)
    ]
    found = torch.zeros(len(tasks), 5, dtype=torch.float64)  # loss, right, tokens, whole rows, rows
    for batch in _batches(queries):
        embeddings = torch.stack([embedding for _, embedding, _ in batch])
        with generated_for(model, network, embeddings):
            sums = _sums(model, [row for *_, piece in batch for row in piece])
        each = sums.view(len(batch), -1, 5).sum(1)
        found.index_add_(0, torch.tensor([at for at, *_ in batch]), each)
    return [
        TaskScore(
            task.task.name, loss / tokens, right / tokens, whole / count, len(task.rows[:rows])
        )
        for task, (loss, right, tokens, whole, count) in zip(tasks, found.tolist(), strict=True)
    ]


@torch.no_grad()
def row_losses(model: PreTrainedModel, rows: Sequence[Encoded]) -> Tensor:
    """Each row's mean loss per answer token in nats, `(rows,)`, under what is on the model."""
    sums = _sums(model, rows)
    return sums[:, 0] / sums[:, 2]


_Query = tuple[int, Tensor, Sequence[Encoded]]


def _batches(queries: Sequence[_Query]) -> Iterator[list[_Query]]:
    """Queries of equally many rows together; the rows of a large one in parts."""
    by_size: dict[int, list[_Query]] = defaultdict(list)
    for at, embedding, rows in queries:
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            piece = rows[start : start + _ROWS_AT_ONCE]
            by_size[len(piece)].append((at, embedding, piece))
    for size, pieces in by_size.items():
        count = max(1, _ROWS_AT_ONCE // size)
        for start in range(0, len(pieces), count):
            yield pieces[start : start + count]


def _sums(model: PreTrainedModel, rows: Sequence[Encoded]) -> Tensor:
    """Per row loss, right tokens, tokens, whether all are right, and 1: `(rows, 5)`."""
    ids, labels = (tensor.to(model.device) for tensor in pad_batch(rows))
    logits, tokens = answer_logits(model, ids, labels, torch.float32)
    losses = F.cross_entropy(logits, tokens, reduction="none").double()
    right = (logits.argmax(-1) == tokens).double()
    of = (labels[:, 1:] != IGNORED).nonzero()[:, 0]
    found = losses.new_zeros(len(rows), 5)
    found[:, :2].index_add_(0, of, torch.stack([losses, right], -1))
    found[:, 2] = torch.bincount(of, minlength=len(rows))
    found[:, 3] = found[:, 1] == found[:, 2]
    found[:, 4] = 1
    return found.cpu()
