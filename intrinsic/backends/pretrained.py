"""Models and tokenizers from a folder or the hub, through transformers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from intrinsic.errors import BackendError

_WANTED = "pass a folder with config.json, weights and tokenizer, or a hub name"

UNSOUND = (
    *(OSError, ValueError, LookupError, ImportError, RuntimeError),
    *(TypeError, AttributeError, AssertionError, ArithmeticError),
    *(SafetensorError, StrictDataclassError),
)
"""What transformers raises for files that are not sound depends on the file and the model."""

_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)

_MISFIT = "its weights have other shapes than config.json asks for"


def load_pretrained(model: str, dtype: torch.dtype | str) -> tuple[Any, Any]:
    """Load a causal model and its tokenizer. Raises `BackendError` where that fails."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = _source(model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        loaded, report = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, output_loading_info=True
        )
    except UNSOUND as error:
        raise BackendError(
            f"cannot load the model {model!r}: {why_unsound(error)}; {_WANTED}"
        ) from error
    missing = sorted(report.get("missing_keys", ()))
    if missing:
        raise BackendError(
            f"cannot load the model {model!r}: its weights lack {len(missing)} tensors that "
            f"config.json asks for, {missing[0]} the first; {_WANTED}"
        )
    return loaded, tokenizer


def load_outline(model: str) -> Any:  # noqa: ANN401
    """Build a causal model without its weights, on the device 'meta', and read its tokenizer.

    Only files of this machine are read. Raises `BackendError` where that fails.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    source = _source(model)
    try:
        config = AutoConfig.from_pretrained(source, local_files_only=True)
        AutoTokenizer.from_pretrained(source, local_files_only=True)
        with torch.device("meta"):
            outline = AutoModelForCausalLM.from_config(config)
    except UNSOUND as error:
        raise BackendError(
            f"cannot load the model {model!r}: {why_unsound(error)}; {_WANTED}"
        ) from error
    if Path(source).is_dir() and not any((Path(source) / name).is_file() for name in _WEIGHTS):
        raise BackendError(f"cannot load the model {model!r}: it has no weights; {_WANTED}")
    return outline


def why_unsound(error: BaseException) -> str:
    """What one of `UNSOUND` says, in a line."""
    first, *more = str(error).strip().splitlines() or [type(error).__name__]
    if "mismatched_sizes" in first:
        return _MISFIT
    return f"{first} {more[0].strip()}" if first.endswith(":") and more else first


def _source(model: str) -> str:
    path = Path(model).expanduser()
    if not model:
        raise BackendError(f"cannot load the model '': the name is empty; {_WANTED}")
    if path.exists():
        return str(path)
    if path.is_absolute() or model.startswith((".", "~")) or model.count(os.sep) > 1:
        raise BackendError(f"cannot load the model {model!r}: the folder does not exist; {_WANTED}")
    return model
