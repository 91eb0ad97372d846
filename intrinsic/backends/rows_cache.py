"""Key-value caches of several requests in one: rows join, padded on the left, and leave.

        row 0   . . . . k k k k k        '.' is padding, which the attention mask hides
        row 1   k k k k k k k k k
        row 2   . . k k k k k k k

Sliding-window layers store the last `window - 1` positions only, of padding as of tokens.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from intrinsic.backends.growing_layer import GrowingLayer

_GROWING = ("dynamic", "longrope")


def can_batch(model: Any) -> bool:  # noqa: ANN401
    """Whether rows of different lengths can share a batch of this model, each as if alone.

    Its cache must consist of plain layers of keys and values; it must take the positions of the
    tokens, which left padding shifts; and nothing in it may depend on the longest row.
    """
    takes = inspect.signature(model.forward).parameters
    if getattr(model, "_is_stateful", False) or model.config.is_encoder_decoder:
        return False
    if not {"past_key_values", "position_ids", "attention_mask"} <= takes.keys():
        return False
    if _looks_at_the_batch(model.config.get_text_config(decoder=True)):
        return False
    layers = DynamicCache(config=model.config).layers
    return bool(layers) and all(
        type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers
    )


def _looks_at_the_batch(config: Any) -> bool:  # noqa: ANN401
    """Rotary embeddings that change with the longest row, attention in chunks of the batch."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kinds = [rope, *(kind for kind in rope.values() if isinstance(kind, dict))]
    grows = any(kind.get("rope_type", kind.get("type")) in _GROWING for kind in kinds)
    return grows or getattr(config, "attention_chunk_size", None) is not None


def new_cache(model: Any) -> DynamicCache:  # noqa: ANN401
    """An empty cache for a model that `can_batch`."""
    cache = DynamicCache(config=model.config)
    cache.layers = [
        GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers
    ]
    return cache


def join(caches: Sequence[DynamicCache]) -> None:
    """Put the rows of all caches into the first one, as wide as the widest."""
    for layers in zip(*(cache.layers for cache in caches), strict=True):
        if not layers[0].is_initialized:  # a layer that shares another one's keys
            continue
        stored = max(layer.keys.shape[-2] for layer in layers)
        keys = torch.cat([_padded(layer.keys, stored) for layer in layers])
        values = torch.cat([_padded(layer.values, stored) for layer in layers])
        _hold(layers[0], keys, values, max(layer.get_seq_length() for layer in layers))


def keep(cache: DynamicCache, rows: torch.Tensor, width: int) -> None:
    """Drop all other rows, and the padding before the last `width` positions.

    Shape: rows `(kept,)`, their indices.
    """
    for layer in cache.layers:
        if not layer.is_initialized:
            continue
        sliding = isinstance(layer, DynamicSlidingWindowLayer)
        stored = min(width, layer.sliding_window - 1) if sliding else width
        start = layer.keys.shape[-2] - stored
        keys = layer.keys[:, :, start:].index_select(0, rows)
        values = layer.values[:, :, start:].index_select(0, rows)
        _hold(layer, keys, values, width)


def _hold(layer: Any, keys: torch.Tensor, values: torch.Tensor, width: int) -> None:  # noqa: ANN401
    if isinstance(layer, GrowingLayer):
        layer.hold(keys, values)
    else:
        layer.keys, layer.values, layer.cumulative_length = keys, values, width


def _padded(tensor: torch.Tensor, width: int) -> torch.Tensor:
    """Shape: `(rows, heads, n, dim)` to `(rows, heads, width, dim)`."""
    return F.pad(tensor, (0, 0, width - tensor.shape[-2], 0))
