"""What an encoder makes of held-out texts, with and without the adapter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from intrinsic.training.embedding.pairs import Pair
from intrinsic.training.precision import autocast

if TYPE_CHECKING:
    from intrinsic.training.embedding.exam import Exam
    from intrinsic.training.embedding.plan import EmbeddingPlan

_TEXTS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class EmbeddingScores:
    """Of all held-out rows: the mean contrastive loss in nats, and how often the nearest is right.

    `accuracy` is the share of queries whose nearest passage belongs to them, of `passages`.
    """

    loss: float
    accuracy: float
    passages: int
    rows: int

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Contrast:
    """A SentenceTransformer, the loss of in-batch negatives on it, and what stands before texts.

    The loss is sentence-transformers' `MultipleNegativesRankingLoss` (InfoNCE): the cross-entropy
    of each query's own positive among the positives, and negatives, of its batch.
    """

    model: Any
    loss: nn.Module
    query_prefix: str
    passage_prefix: str
    dtype: torch.dtype

    @classmethod
    def of(cls, model: Any, plan: EmbeddingPlan, *, labelled: bool) -> Contrast:  # noqa: ANN401
        """The loss that a plan asks for; of labelled texts both sides are queries."""
        try:
            from sentence_transformers.sentence_transformer.losses import (
                MultipleNegativesRankingLoss,
            )
        except ImportError:  # before sentence-transformers 6
            from sentence_transformers.losses import MultipleNegativesRankingLoss

        loss = MultipleNegativesRankingLoss(model, scale=1.0 / plan.temperature)
        passage = plan.query_prefix if labelled else plan.passage_prefix
        dtype = torch.bfloat16 if plan.dtype == "bf16" else torch.float32
        return cls(model, loss, plan.query_prefix, passage, dtype)

    def columns(self, batch: Sequence[Pair]) -> list[dict[str, Tensor]]:
        """The tokens of all queries, of all positives, and of all negatives where there are any."""
        read = getattr(self.model, "preprocess", None) or self.model.tokenize
        passages = [[pair.positive for pair in batch]]
        if batch[0].negative is not None:
            passages.append([pair.negative or "" for pair in batch])
        found = [read([self.query_prefix + pair.query for pair in batch])]
        return [*found, *(read([self.passage_prefix + text for text in one]) for one in passages)]

    @torch.no_grad()
    def held_out(self, batches: Sequence[Sequence[Pair]]) -> float:
        """The mean loss of pairs, without dropout; leaves the model as it was."""
        device = next(self.model.parameters()).device
        total, pairs = 0.0, 0
        with _at_rest(self.model):
            for batch in batches:
                columns = [_moved(column, device) for column in self.columns(batch)]
                with autocast(self.dtype, device.type):
                    total += float(self.loss(columns, None)) * len(batch)
                pairs += len(batch)
        return total / pairs

    def score(self, exam: Exam) -> EmbeddingScores:
        """Score the model as it stands."""
        with _at_rest(self.model):
            queries = self._vectors(self.query_prefix, exam.queries)
            passages = self._vectors(self.passage_prefix, exam.passages)
        nearest = (queries @ passages.T).argmax(axis=1)
        right = [int(at) in found for at, found in zip(nearest, exam.right, strict=True)]
        return EmbeddingScores(
            self.held_out(exam.batches), float(np.mean(right)), len(exam.passages), exam.rows
        )

    def _vectors(self, prefix: str, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        device = next(self.model.parameters()).device
        with autocast(self.dtype, device.type):
            found = self.model.encode(
                [prefix + text for text in texts],
                batch_size=_TEXTS_AT_ONCE,
                normalize_embeddings=True,
                show_progress_bar=False,
            )
        return np.asarray(found, np.float32)


@contextmanager
def _at_rest(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _moved(column: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {
        key: value.to(device) if isinstance(value, Tensor) else value
        for key, value in column.items()
    }
