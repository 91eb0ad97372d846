"""A `Score` callable over a plain transformers model: the reference that a backend is held to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from intrinsic.training.tokenizer import CONTEXT_TOKENS, answer_ids, prompt_ids

IGNORED = -100


@dataclass(frozen=True)
class Encoded:
    """Ids of a question with its answer; `labels` repeats the answer's ids, `IGNORED` elsewhere."""

    ids: list[int]
    labels: list[int]


def encode_pair(
    tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str, with_end: bool = False
) -> Encoded:
    """Question, answer and, for training, the end mark; cut at the model's context."""
    before = prompt_ids(tokenizer, prompt)
    after = answer_ids(tokenizer, answer) + ([int(tokenizer.eos_token_id)] if with_end else [])
    ids = (before + after)[:CONTEXT_TOKENS]
    return Encoded(ids, ([IGNORED] * len(before) + after)[: len(ids)])


def pad_batch(encoded: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
    """Ids and labels (rows, longest), padded on the right, where causal attention never looks."""
    longest = max(len(one.ids) for one in encoded)
    ids = [one.ids + [1] * (longest - len(one.ids)) for one in encoded]
    labels = [one.labels + [IGNORED] * (longest - len(one.labels)) for one in encoded]
    return torch.tensor(ids), torch.tensor(labels)


def answer_log_probs(
    model: PreTrainedModel | PeftModel, ids: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Log-probability (answer tokens,) of every labelled token, and the row that each is in.

    The head runs at answer positions only. `model` is a causal model, wrapped by PEFT or not.
    """
    plain = model.get_base_model() if isinstance(model, PeftModel) else model
    hidden = plain.model(input_ids=ids).last_hidden_state[:, :-1]  # (rows, length - 1, width)
    targets = labels[:, 1:]
    wanted = targets != IGNORED
    log_probs = torch.log_softmax(plain.lm_head(hidden[wanted]).float(), dim=-1)
    rows = wanted.nonzero()[:, 0]
    return log_probs.gather(1, targets[wanted][:, None])[:, 0], rows


class ModelScorer:
    """Scores answers under a model as it stands; call it like a function."""

    def __init__(
        self, model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer

    @torch.inference_mode()
    def __call__(self, prompt: str, answers: Sequence[str]) -> list[tuple[float, int]]:
        """Per answer: sum of log-probabilities in nats, and tokens scored."""
        encoded = [encode_pair(self._tokenizer, prompt, answer) for answer in answers]
        log_probs, rows = answer_log_probs(self._model, *pad_batch(encoded))
        sums = torch.zeros(len(answers)).index_add_(0, rows, log_probs)
        counts = torch.bincount(rows, minlength=len(answers))
        return [(float(s), int(n)) for s, n in zip(sums, counts, strict=True)]
