"""One layer's keys and values with room for more, so that a new token copies only itself."""

from __future__ import annotations

import torch
from transformers.cache_utils import DynamicLayer

_ROOM = 64


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """transformers' `DynamicLayer`, which copies all of itself at each token, without that.

    `keys` and `values` are views `(rows, heads, length, dim)` of tensors that are longer.
    """

    def __init__(self) -> None:
        super().__init__()
        self._keys = torch.empty(0)
        self._values = torch.empty(0)

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        *args: object,
        **kwargs: object,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append, and return all keys and values."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.hold(key_states, value_states)
            return self.keys, self.values
        start = self.keys.shape[-2]
        end = start + key_states.shape[-2]
        if end > self._keys.shape[-2]:
            self._make_room(end)
        self._keys[:, :, start:end] = key_states
        self._values[:, :, start:end] = value_states
        self._show(end)
        return self.keys, self.values

    def hold(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Have these keys and values in place of all others."""
        self._keys, self._values = keys, values
        self._show(keys.shape[-2])

    def _make_room(self, length: int) -> None:
        room = length + max(_ROOM, length // 4)
        self._keys, self._values = _longer(self.keys, room), _longer(self.values, room)

    def _show(self, length: int) -> None:
        self.keys, self.values = self._keys[:, :, :length], self._values[:, :, :length]


def _longer(tensor: torch.Tensor, length: int) -> torch.Tensor:
    rows, heads, held, dim = tensor.shape
    longer = tensor.new_empty(rows, heads, length, dim)
    longer[:, :, :held] = tensor
    return longer
