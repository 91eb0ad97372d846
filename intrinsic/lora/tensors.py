"""Which part of which module a tensor of a PEFT checkpoint is."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch

from intrinsic.errors import CheckpointError
from intrinsic.lora.wording import named

_PREFIX = "base_model.model."
_MAX_KEY = 256
_PLACE = re.compile(
    r"^(?P<module>.+)\.(?:"
    r"lora_(?P<side>[AB])(?:\.default)?\.weight"
    r"|lora_embedding_(?P<embedding>[AB])(?:\.default)?"
    r"|lora_B(?:\.default)?\.(?P<bias>bias)"
    r"|lora_(?P<magnitude>magnitude)_vector(?:\.default)?(?:\.weight)?"
    r"|base_layer\.(?P<base>weight|bias)"
    r")\Z"
)
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""The dtypes that a tensor may have."""
BASE_COPIES = {"base weight": "weight", "base bias": "bias"}
"""Parts that are copies of the layer's own parameters, and the names of these."""
_MATRICES = ("A", "B", "embedding A", "embedding B", "base weight")

Parts = dict[str, tuple[str, torch.Tensor]]
"""One module's tensors with their keys, by part: `A`, `B`, `embedding A`, `embedding B`, `bias`,
`magnitude`, and the copies of an embedding or head that PEFT stores along, see `BASE_COPIES`."""


def place(
    tensors: Mapping[str, torch.Tensor], path: Path, *, finite: bool = False
) -> dict[str, Parts]:
    """The file's tensors by module and part; `finite` says that all values are known to be.

    Raises `CheckpointError` naming a tensor that is no part of a LoRA, that comes twice, is no
    matrix (or vector, for a bias or magnitude) of floats, or holds NaN or infinite values.
    """
    modules: dict[str, Parts] = {}
    for key, tensor in tensors.items():
        module, part = _place_of(key, path)
        parts = modules.setdefault(module, {})
        if part in parts:
            raise CheckpointError(f"{path}: {module} has {part!r} twice")
        _check_tensor(key, part, tensor, path)
        if not finite and not math.isfinite(peak_of(tensor)):
            raise CheckpointError(f"{path}: tensor {named(key)} holds NaN or infinite values")
        parts[part] = (key, tensor)
    if all(parts.keys() <= BASE_COPIES.keys() for parts in modules.values()):
        raise CheckpointError(f"{path} holds no LoRA tensors")
    return modules


def _place_of(key: str, path: Path) -> tuple[str, str]:
    if len(key) > _MAX_KEY:
        raise CheckpointError(
            f"{path}: tensor '{key[:60]}...' has a name of {len(key)} characters; "
            f"{_MAX_KEY} are allowed"
        )
    found = _PLACE.match(key.removeprefix(_PREFIX))
    if found is None:
        raise CheckpointError(
            f"{path}: tensor {named(key)} is no part of a LoRA; "
            "whole trained modules and other additions are not supported"
        )
    if found["embedding"]:
        part = f"embedding {found['embedding']}"
    elif found["base"]:
        part = f"base {found['base']}"
    else:
        part = found["side"] or found["bias"] or found["magnitude"]
    return found["module"], part


def _check_tensor(key: str, part: str, tensor: torch.Tensor, path: Path) -> None:
    shape = "matrix" if part in _MATRICES else "vector"
    if tensor.dim() != (2 if shape == "matrix" else 1) or tensor.dtype not in FLOATS:
        raise CheckpointError(
            f"{path}: tensor {named(key)} is {named(tuple(tensor.shape))} "
            f"{tensor.dtype}; it must be a {shape} of fp16, bf16, fp32 or fp64"
        )


def peak_of(tensor: torch.Tensor) -> float:
    """The largest magnitude, found in one pass; NaN where there is one."""
    if not tensor.numel():
        return 0.0
    low, high = torch.aminmax(tensor)
    return max(-float(low), float(high))
