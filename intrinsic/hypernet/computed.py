"""The values of a model's config that its passes compute with, beside the weights."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from torch import nn

_WITHOUT_A_PART = """
    architectures attn_implementation bos_token_id chunk_size_feed_forward decoder_start_token_id
    dtype eos_token_id id2label label2id output_attentions output_hidden_states
    output_router_logits pad_token_id pretraining_tp problem_type quantization_config return_dict
    router_jitter_noise sep_token_id task_specific_params tie_word_embeddings tokenizer_class
    torch_dtype transformers_version use_cache
"""
_UNUSED = frozenset(_WITHOUT_A_PART.split())
"""What is about names, training and form."""

_UNUSED_ENDS = (
    "dropout",
    "dropout_prob",
    "dropout_rate",
    "_pdrop",
    "_factor_init",
    "aux_loss_coef",
)
_UNUSED_STARTS = ("_", "summary_", "initializer_")

_LIMITS = frozenset({"max_position_embeddings", "n_positions"})
"""What some rotary embeddings compute with, and others do not."""

_ROTARY_TYPES = ("rope_type", "type")


def computed_values(model: nn.Module) -> dict[str, str]:
    """The values by name, as JSON: epsilons, activations, rotary parameters, scales and caps.

    Empty for a model without a config of transformers' kind.
    """
    as_dict = getattr(getattr(model, "config", None), "to_dict", None)
    values = {} if as_dict is None else _used(as_dict())
    return {
        name: json.dumps(value, sort_keys=True, default=str)
        for name, value in sorted(values.items())
    }


def value_differences(values: Mapping[str, str], others: Mapping[str, str]) -> list[str]:
    """Which values differ, in words.

    A name that one of them lacks says nothing: versions of transformers add and drop names.
    """
    return [
        f"{name} {value} against {others[name]}"
        for name, value in values.items()
        if name in others and others[name] != value
    ]


def _used(values: Mapping[Any, Any]) -> dict[str, Any]:
    """A config, or a part of one, without what no pass computes with."""
    unused = _UNUSED if _is_stretched(values) else _UNUSED | _LIMITS
    return {
        str(name): _plain(value)
        for name, value in values.items()
        if str(name) not in unused
        and not str(name).startswith(_UNUSED_STARTS)
        and not str(name).endswith(_UNUSED_ENDS)
    }


def _plain(value: Any) -> Any:  # noqa: ANN401 - what a config may hold
    """The value, as it is written in whatever file: 10000.0 is 10000."""
    if isinstance(value, Mapping):
        return _used(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return int(value)
    return value


def _is_stretched(values: Mapping[Any, Any]) -> bool:
    """Whether the rotary embeddings depend on how long a text the model is made for."""
    return any(
        (name in _ROTARY_TYPES and value not in (None, "default"))
        or (isinstance(value, Mapping) and _is_stretched(value))
        for name, value in values.items()
    )
