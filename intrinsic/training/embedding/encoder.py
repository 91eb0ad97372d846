"""The encoder that an adapter is trained for, and the layers that a vector depends on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import PreTrainedModel

from intrinsic.errors import ConfigError, UnsupportedAdapterError
from intrinsic.routing.model_loading import BUNDLED_MODEL, bundled_model, load_model
from intrinsic.training.lora.base import BaseModel, choose_targets, find_base, matrices_of

BUNDLED_NAMES = (BUNDLED_MODEL, f"sentence-transformers/{BUNDLED_MODEL}")


def find_encoder(model: str) -> BaseModel:
    """Find a folder, the bundled `all-MiniLM-L6-v2`, or a hub name that is in the cache.

    Raises `BackendError` where there is none, `EncoderError` where the bundled one is not whole;
    nothing is downloaded.
    """
    if model not in BUNDLED_NAMES:
        return find_base(model)
    return replace(find_base(str(bundled_model())), name=BUNDLED_NAMES[1])


def load_encoder(base: BaseModel) -> tuple[Any, PreTrainedModel]:
    """Load a SentenceTransformer on the CPU in fp32, and the transformer inside.

    A plain model is read with the mean of its tokens. Raises `EncoderError` where that fails, and
    `UnsupportedAdapterError` for an encoder without a transformer.
    """
    model = load_model(str(base.folder), "cpu")
    inner = getattr(model[0], "auto_model", None)
    if not isinstance(inner, PreTrainedModel):
        raise UnsupportedAdapterError(
            f"{base.name} begins with {type(model[0]).__name__}, which is no transformer; LoRA "
            "needs an encoder of transformers, name another with --base"
        )
    return model.float(), inner


def used_targets(model: Any, inner: PreTrainedModel, wanted: Sequence[str]) -> tuple[str, ...]:  # noqa: ANN401
    """The layers to adapt: those that are named, or all matrices that a vector depends on.

    Others, such as the pooler of BERT under mean pooling, would be stored and never learn. Layers
    are named without what stands before their number. Raises `ConfigError` for a name that no
    matrix has, and for names of which no layer is used.
    """
    names = matrices_of(inner)
    used = _used(model, inner)
    if wanted:
        chosen = choose_targets(inner, wanted)
        if not any(f".{name}".endswith(f".{end}") for end in chosen for name in used):
            raise ConfigError(
                f"--targets: no vector depends on {', '.join(map(repr, chosen))}; it depends on "
                f"{', '.join(sorted({_short(name) for name in used}))}"
            )
        return chosen
    choose_targets(inner, ())
    ends = {_short(name) for name in used}
    apart = [name for name in names if name not in used]
    clear = {end for end in ends if not any(f".{name}".endswith(f".{end}") for name in apart)}
    return tuple(sorted({_short(name) if _short(name) in clear else name for name in used}))


@torch.no_grad()
def _used(model: Any, inner: PreTrainedModel) -> set[str]:  # noqa: ANN401
    """The matrices whose output reaches the vector of a text: they have a gradient."""
    names = matrices_of(inner)
    layers = {name: inner.get_submodule(name) for name in names}
    weights = [layer.weight for layer in layers.values()]
    kept = [weight.requires_grad for weight in weights]
    try:
        with torch.enable_grad():
            for weight in weights:
                weight.requires_grad_(True)
            read = getattr(model, "preprocess", None) or model.tokenize
            vector = model(read(["a text"]))["sentence_embedding"]
            found = torch.autograd.grad(vector.sum(), weights, allow_unused=True)
    finally:
        for weight, before in zip(weights, kept, strict=True):
            weight.requires_grad_(before)
    return {name for name, slope in zip(names, found, strict=True) if slope is not None}


def _short(name: str) -> str:
    """A layer's name behind the last number in it."""
    return re.split(r"(?:^|\.)\d+\.", name)[-1]
