"""What an earlier layer of the bundled encoder adds to the vector of a text.

    v = unit( unit(mean over tokens of layer 6) + share · unit(mean over tokens of layer 4) )

The last layer was trained to tell paraphrases from anything else; the fourth still has more of the
words. For a handful of examples, and for none, both tell more than the last alone, and the second
costs one sum over tokens that are computed anyway.
"""

from __future__ import annotations

from typing import Any

import torch

AT = 4
"""Counted from 1, of six."""


def add_to(model: Any, share: float) -> None:  # noqa: ANN401
    """Have a sentence-transformers BERT give vectors with `share` of its layer `AT`."""
    model.append(MiddleLayer(model[0].auto_model, share))


class MiddleLayer(torch.nn.Module):
    """A last module of a sentence-transformers BERT that adds `share` times layer `AT`."""

    def __init__(self, bert: Any, share: float) -> None:  # noqa: ANN401
        super().__init__()
        self.share = share
        self._found: torch.Tensor | None = None
        bert.encoder.layer[AT - 1].register_forward_hook(self._keep)

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """Replace `sentence_embedding (batch, d)`; it is not normalised."""
        found, self._found = self._found, None
        assert found is not None
        mask = features["attention_mask"].unsqueeze(-1).to(found.dtype)
        mean = torch.nn.functional.normalize((found * mask).sum(1), dim=-1)
        last = torch.nn.functional.normalize(features["sentence_embedding"], dim=-1)
        features["sentence_embedding"] = last + self.share * mean
        return features

    def _keep(self, module: object, given: object, output: Any) -> None:  # noqa: ANN401
        self._found = output[0] if isinstance(output, tuple) else output
