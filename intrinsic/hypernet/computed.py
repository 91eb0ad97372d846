"""The values of a model's config that its passes compute with, beside the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch import nn

_WITHOUT_A_PART = """
    architectures attn_implementation bos_token_id chunk_size_feed_forward decoder_start_token_id
    dtype eos_token_id id2label label2id max_position_embeddings n_positions output_attentions
    output_hidden_states pad_token_id pretraining_tp problem_type quantization_config return_dict
    sep_token_id tie_word_embeddings tokenizer_class torch_dtype transformers_version
    use_cache
"""
_UNUSED = frozenset(_WITHOUT_A_PART.split())
"""What is about names, limits, training and form."""

_UNUSED_ENDS = (
    "dropout",
    "_pdrop",
    "initializer_range",
    "initializer_factor",
    "router_aux_loss_coef",
)


def computed_values(model: nn.Module) -> dict[str, str]:
    """The values by name, as JSON: epsilons, activations, rotary parameters, scales and caps.

    Empty for a model without a config of transformers' kind.
    """
    as_dict = getattr(getattr(model, "config", None), "to_dict", None)
    values: dict[str, Any] = {} if as_dict is None else as_dict()
    return {
        name: json.dumps(value, sort_keys=True, default=str)
        for name, value in sorted(values.items())
        if not (name.startswith(("_", "summary_")) or name in _UNUSED)
        and not name.endswith(_UNUSED_ENDS)
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
