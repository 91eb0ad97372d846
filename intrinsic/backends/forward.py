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
        """Read new ids of each row after the `read` ones in the cache.

        Rows differ in what was read, or, where nothing was, in how many ids they have.
        Shape: ids `(rows, n)`, read `(rows,)`; the logits after the last, `(rows, vocabulary)`.
        """
        device = self.model.device
        n = max(map(len, ids))
        new = torch.tensor([[0] * (n - len(row)) + [*row] for row in ids], device=device)
        known = [len(row) + before for row, before in zip(ids, read, strict=True)]
        lengths = torch.tensor(known, device=device)[:, None]  # (rows, 1)
        width = max(read) + n
        with torch.no_grad():
            output = self.model(
                input_ids=new,
                attention_mask=(torch.arange(width, device=device) >= width - lengths).long(),
                position_ids=(lengths - n + torch.arange(n, device=device)).clamp(min=0),
                past_key_values=cache,
                use_cache=True,
                **self._few,
            )
        logits: torch.Tensor = output.logits[:, -1]
        return logits
