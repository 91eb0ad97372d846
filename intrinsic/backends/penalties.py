"""What a request adds to the logits of tokens."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from transformers import LogitsProcessor


class LogitBias(LogitsProcessor):  # type: ignore[misc]
    """Adds a number to the logits of some tokens. Shape: scores `(1, vocabulary)`."""

    def __init__(self, bias: Mapping[int, float], device: torch.device) -> None:
        self._ids = torch.tensor(list(bias), device=device)
        self._bias = torch.tensor([[*bias.values()]], dtype=torch.float32, device=device)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores.index_add(1, self._ids, self._bias)


class CountPenalty(LogitsProcessor):  # type: ignore[misc]
    """`logit[t] -= count(t) * frequency + (count(t) > 0) * presence` over the generated tokens.

    Those are what follows the first `prompt_tokens` ids. Shape: scores `(1, vocabulary)`.
    Source: OpenAI's API reference, 'Frequency and presence penalties'.
    """

    def __init__(self, prompt_tokens: int, frequency: float, presence: float) -> None:
        self._prompt_tokens = prompt_tokens
        self._frequency = frequency
        self._presence = presence

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        new = input_ids[0, self._prompt_tokens :]
        counts = torch.bincount(new, minlength=scores.shape[-1])[None]  # (1, vocabulary)
        return scores - counts * self._frequency - (counts > 0) * self._presence
