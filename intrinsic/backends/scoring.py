"""Log-likelihoods of given answers, in batches."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch

from intrinsic.backends.backend import AnswerScore
from intrinsic.errors import BackendError

_ANSWERS_PER_BATCH = 8


def score_answers(
    model: Any,  # noqa: ANN401
    prompt_ids: Sequence[int],
    answers: Sequence[Sequence[int]],
    context_tokens: int,
    stop: threading.Event | None = None,
) -> list[AnswerScore]:
    """Score `log p(answer | prompt) = Σ log p(tokenₜ | prompt, tokens before t)`, in fp32.

    Raises `BackendError` where prompt and answer do not fit the context together. `stop` ends the
    work after the current batch, with the scores so far.
    """
    longest = len(prompt_ids) + max((len(answer) for answer in answers), default=0)
    if longest > context_tokens:
        raise BackendError(
            f"prompt and answer have {longest} tokens and the model reads {context_tokens}; "
            "shorten them"
        )
    scores: list[AnswerScore] = []
    for start in range(0, len(answers), _ANSWERS_PER_BATCH):
        if stop is not None and stop.is_set():
            break
        scores += _score_batch(model, prompt_ids, answers[start : start + _ANSWERS_PER_BATCH])
    return scores


def _score_batch(
    model: Any,  # noqa: ANN401
    prompt_ids: Sequence[int],
    answers: Sequence[Sequence[int]],
) -> list[AnswerScore]:
    """Padding follows the answers, where causal attention never looks back from."""
    rows = [[*prompt_ids, *answer] for answer in answers]
    width = max(len(row) for row in rows)
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=model.device)
    mask = torch.tensor(
        [[1] * len(row) + [0] * (width - len(row)) for row in rows], device=model.device
    )
    first = len(prompt_ids)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    log_probs = logits[:, first - 1 : -1].float().log_softmax(-1)  # (answers, tokens, vocabulary)
    picked = log_probs.gather(-1, ids[:, first:, None])[..., 0]  # (answers, tokens)
    return [
        AnswerScore(float(picked[row, : len(answer)].double().sum()), len(answer))
        for row, answer in enumerate(answers)
    ]
