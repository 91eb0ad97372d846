"""Loading an encoder: a sentence-transformers model, or any transformer with a pooling."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from torch import nn

from intrinsic.embedding.encoder import Parts, TextEncoder
from intrinsic.embedding.options import EmbeddingOptions
from intrinsic.errors import ConfigError, EncoderError
from intrinsic.routing.model_loading import BUNDLED_MODEL, load_model

_MODES = {"mean": "mean", "cls": "cls", "last": "lasttoken"}
"""What sentence-transformers calls the ways of pooling."""

_UNBOUNDED = 10**9
"""Tokenizers without a limit of their own give a number beyond this."""


def load_encoder(source: str | None, options: EmbeddingOptions) -> TextEncoder:
    """Load a model by folder or hub name, or the bundled one for None, as the options say.

    Raises `EncoderError` for one that is missing, unsound or no transformer of texts, and
    `ConfigError` for options that it cannot follow.
    """
    name = source or BUNDLED_MODEL
    model = load_model(
        source,
        options.device,
        local_files_only=options.local_files_only,
        model_kwargs={"dtype": _dtype(options)},
    )
    first = model[0]
    transformer = getattr(first, "auto_model", None)
    tokenizer: Any = getattr(first, "tokenizer", None)
    if not isinstance(transformer, nn.Module) or not hasattr(tokenizer, "padding_side"):
        raise EncoderError(
            f"encoder {name!r} begins with {type(first).__name__}, not with a transformer of "
            "texts, whose layers an adapter could change; use SentenceEncoder, or another model"
        )
    if options.padding_side != "auto":
        tokenizer.padding_side = options.padding_side
    after = tuple(_after(model, options, name))
    transformer.eval()
    parts = Parts(
        transformer=transformer,
        tokenizer=tokenizer,
        after=after,
        dimension=_dimension(model, after),
        limit=_limit(model, transformer, options, name),
        positions_from=_positions_from(transformer),
        pools_instruction=all(getattr(module, "include_prompt", True) for module in after),
        prompt=(model.prompts or {}).get(model.default_prompt_name) or "",
    )
    return TextEncoder(parts, name=name, max_pieces=options.max_pieces)


def _dtype(options: EmbeddingOptions) -> str:
    if options.dtype == "auto" and options.device.startswith("cpu"):
        return "float32"
    return options.dtype


def _after(model: Any, options: EmbeddingOptions, name: str) -> Iterator[nn.Module]:  # noqa: ANN401
    """The modules behind the transformer, with the pooling that was asked for."""
    pooled = False
    for module in list(model)[1:]:
        module.eval()
        if hasattr(module, "pooling_mode") or hasattr(module, "pooling_mode_mean_tokens"):
            pooled = True
            yield module if options.pooling == "auto" else _pooling(module, options.pooling)
        else:
            yield module
    if not pooled:
        raise EncoderError(
            f"encoder {name!r} has no pooling, which makes one vector of a text's tokens; "
            "name another model"
        )


def _pooling(module: Any, pooling: str) -> nn.Module:  # noqa: ANN401
    width = getattr(module, "embedding_dimension", None) or module.word_embedding_dimension
    made: nn.Module = type(module)(
        width, pooling_mode=_MODES[pooling], include_prompt=module.include_prompt
    )
    return made


def _dimension(model: Any, after: tuple[nn.Module, ...]) -> int:  # noqa: ANN401
    """Length of a vector: what the last module that says so gives."""
    for module in reversed(after):
        for attribute in ("out_features", "pooling_output_dimension"):
            if (width := getattr(module, attribute, None)) is not None:
                return int(width)
    get = getattr(model, "get_embedding_dimension", None)
    return int((get or model.get_sentence_embedding_dimension)())


def _limit(
    model: Any,  # noqa: ANN401
    transformer: nn.Module,
    options: EmbeddingOptions,
    name: str,
) -> int:
    """How many tokens are read at once; 0 is without end."""
    config: Any = transformer.config
    places = int(getattr(config, "max_position_embeddings", 0) or 0)
    most = max(0, places - (_positions_from(transformer) or 0))
    given = options.max_length or getattr(model, "max_seq_length", None) or most
    if options.max_length and most and options.max_length > most:
        raise ConfigError(f"max_length is {options.max_length}; {name!r} reads at most {most}")
    limit = min(given, most) if most else int(given)
    return 0 if limit > _UNBOUNDED else int(limit)


def _positions_from(transformer: nn.Module) -> int | None:
    """The position of a first token, or None where the model takes no positions.

    RoBERTa and its kin leave the positions up to that of padding unused.
    """
    if "position_ids" not in inspect.signature(transformer.forward).parameters:
        return None
    for module in transformer.modules():
        padding = getattr(module, "padding_idx", None)
        if isinstance(padding, int) and isinstance(
            getattr(module, "position_embeddings", None), nn.Embedding
        ):
            return padding + 1
    return 0
