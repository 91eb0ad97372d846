"""What a hypernetwork's training makes small."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from intrinsic.hypernet.apply import Pairs
from intrinsic.training.lora.scores import answer_logits
from intrinsic.training.scoring import IGNORED


def answer_loss(
    model: PreTrainedModel, ids: Tensor, labels: Tensor, queries: int
) -> tuple[Tensor, Tensor]:
    """The mean over the queries of each one's mean loss per answer token, and these, `(queries,)`.

    Shape: ids and labels `(queries · rows, tokens)`, query by query.
    """
    logits, tokens = answer_logits(model, ids, labels, torch.float32)
    losses = F.cross_entropy(logits, tokens, reduction="none")
    each = mean_by_query(losses, labels, queries)
    return each.mean(), each


def divergence(adapted: Tensor, bare: Tensor) -> Tensor:
    """`KL(bare ‖ adapted)` in nats, mean over the tokens. Shape: logits `(tokens, vocabulary)`."""
    return F.kl_div(
        adapted.log_softmax(-1), bare.log_softmax(-1), log_target=True, reduction="batchmean"
    )


def mean_by_query(values: Tensor, labels: Tensor, queries: int) -> Tensor:
    """Mean over each query's answer tokens. Shape: values `(tokens,)` to `(queries,)`."""
    wanted = labels[:, 1:] != IGNORED
    counts = wanted.view(queries, -1).sum(1)
    of = torch.repeat_interleave(torch.arange(queries, device=values.device), counts)
    sums = values.new_zeros(queries).index_add(0, of, values)
    return sums / counts


def reconstruction(pairs: Pairs, wanted: Pairs, scale: float) -> Tensor:
    """`‖s B A - ΔW‖² / ‖ΔW‖²`, with ΔW = B'A' as `wanted`; sums over the targets, mean over n.

    No ΔW is made: `<B A, B'A'> = Σ (BᵀB') ∘ (A A'ᵀ)`. Shape: as in `applied`, leading n.
    """
    own = sum_of_products(pairs, pairs) * scale**2
    between = sum_of_products(pairs, wanted) * scale
    given = sum_of_products(wanted, wanted)
    return ((own - 2 * between + given) / given.clamp_min(1e-12)).mean()


def sum_of_products(left: Pairs, right: Pairs) -> Tensor:
    """Per query the inner products of both sides' ΔW, summed over the targets: `(n,)`."""
    total = torch.zeros(1)
    for (A, B), (A_, B_) in zip(left, right, strict=True):
        total = total.to(A.device) + ((B.mT @ B_) * (A @ A_.mT)).sum((-1, -2))
    return total
