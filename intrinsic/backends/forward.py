"""The model's forward pass over rows of different lengths, with their cache."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache


class Forward:
    """One pass; under which mixtures is not its business."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        self.model = model
        takes = inspect.signature(model.forward).parameters
        self._few = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}

    def __call__(
        self, ids: Sequence[Sequence[int]], read: Sequence[int], cache: DynamicCache
    ) -> torch.Tensor:
        """Read new ids of each row, the same number for all, after the `read` ones in the cache.

        Shape: ids `(rows, n)`, read `(rows,)`; the logits after the last, `(rows, vocabulary)`.
        """
        device = self.model.device
        new = torch.tensor(ids, device=device)  # (rows, n)
        lengths = torch.tensor(read, device=device)[:, None]  # (rows, 1)
        width = max(read) + new.shape[1]
        padding = max(read) - lengths
        with torch.no_grad():
            output = self.model(
                input_ids=new,
                attention_mask=(torch.arange(width, device=device) >= padding).long(),
                position_ids=lengths + torch.arange(new.shape[1], device=device),
                past_key_values=cache,
                use_cache=True,
                **self._few,
            )
        logits: torch.Tensor = output.logits[:, -1]
        return logits
