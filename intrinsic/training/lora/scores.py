"""What a model makes of held-out rows, with and without the adapter."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from intrinsic.training.precision import autocast
from intrinsic.training.scoring import IGNORED, Encoded, pad_batch


@dataclass(frozen=True, slots=True)
class Scores:
    """Of all answer tokens: mean loss in nats, and the share that was the likeliest token."""

    loss: float
    token_accuracy: float
    tokens: int
    rows: int

    @property
    def perplexity(self) -> float:
        """e to the loss; infinite where that has no number."""
        try:
            return math.exp(self.loss)
        except OverflowError:
            return math.inf

    def as_json(self) -> dict[str, Any]:
        """Return plain values; a perplexity that is infinite is None."""
        finite = self.perplexity if math.isfinite(self.perplexity) else None
        return asdict(self) | {"perplexity": finite}


def answer_logits(
    model: PeftModel | PreTrainedModel, ids: Tensor, labels: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Logits (answer tokens, vocabulary) in fp32, each of a token's predecessor, and the tokens.

    Products are made in `dtype`. The head is run from the first answer token on where the model
    can do so. Of a token at position 0 there is no predecessor.
    """
    targets = labels[:, 1:]
    wanted = targets != IGNORED
    first = int(wanted.any(0).nonzero()[0])
    last = labels.shape[1] - first  # of so many positions, but for the very last, logits are used
    plain = model.get_base_model() if isinstance(model, PeftModel) else model
    cut = "logits_to_keep" in inspect.signature(plain.forward).parameters
    with autocast(dtype, ids.device.type):
        found = model(input_ids=ids, use_cache=False, **({"logits_to_keep": last} if cut else {}))
    return found.logits[:, -last:-1][wanted[:, first:]].float(), targets[wanted]


@torch.inference_mode()
def score(
    model: PeftModel | PreTrainedModel,
    batches: Sequence[Sequence[Encoded]],
    dtype: torch.dtype,
    device: torch.device | str,
) -> Scores:
    """Score every answer token of the batches, without dropout; leaves the model as it was."""
    was_training = model.training
    model.eval()
    total, right, tokens = 0.0, 0, 0
    try:
        for batch in batches:
            ids, labels = (tensor.to(device) for tensor in pad_batch(batch))
            logits, targets = answer_logits(model, ids, labels, dtype)
            losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
            total += float(losses.double().sum())
            right += int((logits.argmax(-1) == targets).sum())
            tokens += len(targets)
    finally:
        model.train(was_training)
    return Scores(total / tokens, right / tokens, tokens, sum(map(len, batches)))
