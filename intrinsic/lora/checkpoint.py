"""A LoRA checkpoint, read once and checked in full before anything is changed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from intrinsic.errors import CheckpointError, UnsupportedAdapterError
from intrinsic.lora.config import CONFIG_NAME, LoraConfig, check_regular, read_config

WEIGHTS_NAME = "adapter_model.safetensors"

_PREFIX = "base_model.model."
_MAX_KEY = 256
_FACTOR = re.compile(r"^(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight$")
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_SPECIAL_TENSORS = {
    ".base_layer.": "a copy of the base layer (left out by save_embedding_layers=False)",
    "lora_embedding_": "LoRA on embeddings",
    "lora_magnitude_vector": "DoRA",
    ".lora_A.bias": "lora_bias",
    ".lora_B.bias": "lora_bias",
}


@dataclass(frozen=True, slots=True)
class Factors:
    """One module's low-rank update: `A (r, in)`, `B (out, r)`, scale s."""

    A: torch.Tensor
    B: torch.Tensor
    scale: float

    @property
    def rank(self) -> int:
        """r, the number of rows of A."""
        return int(self.A.shape[0])


@dataclass(frozen=True, slots=True)
class LoraCheckpoint:
    """The factors of every module by the module's name in the model, with the config.

    `digest` is the SHA-256 of both files' bytes, in hex.
    """

    path: Path
    config: LoraConfig
    factors: Mapping[str, Factors]
    digest: str
    bytes_used: int


def read_checkpoint(folder: str | Path) -> LoraCheckpoint:
    """Read a folder that PEFT's `save_pretrained` wrote.

    Checks the config, that every tensor of the file is one half of a pair, that shapes agree with
    the declared ranks, and that all values are finite. Raises `CheckpointError` or
    `UnsupportedAdapterError`, naming file and tensor.
    """
    folder = _expanded(folder)
    config = read_config(folder)
    path = folder / WEIGHTS_NAME
    data = _read_bytes(path)
    try:
        tensors = safetensors.torch.load(data)
    # torch refuses shapes beyond its integers with a TypeError or a RuntimeError of many lines.
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise _unsound(path, error) from None
    factors = {
        module: _checked(module, pair, config, path)
        for module, pair in _paired(tensors, path).items()
    }
    digest = hashlib.sha256((folder / CONFIG_NAME).read_bytes())
    digest.update(data)
    return LoraCheckpoint(
        path=folder,
        config=config,
        factors=factors,
        digest=digest.hexdigest(),
        bytes_used=sum(t.numel() * t.element_size() for t in tensors.values()),
    )


def _expanded(folder: str | Path) -> Path:
    try:
        return Path(folder).expanduser()
    except RuntimeError as error:
        raise CheckpointError(f"{folder} cannot be found: {error}") from None


def _unsound(path: Path, error: Exception) -> CheckpointError:
    why = (str(error).splitlines() or [""])[0]
    return CheckpointError(f"{path} is not a sound safetensors file: {why[:200]}")


def _read_bytes(path: Path) -> bytes:
    """The file's bytes, once its header and its size were found to agree."""
    try:
        check_regular(path)
        with safetensors.safe_open(path, framework="pt"):
            pass
        return path.read_bytes()
    except FileNotFoundError:
        pickled = path.with_suffix(".bin")
        why = (
            f"only {pickled.name}, a pickle, which can run code; save it with safetensors"
            if pickled.exists()
            else f"no {path.name}"
        )
        raise CheckpointError(f"{path.parent} has {why}") from None
    except safetensors.SafetensorError as error:
        raise _unsound(path, error) from None
    except (OSError, MemoryError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None


def _paired(
    tensors: Mapping[str, torch.Tensor], path: Path
) -> dict[str, dict[str, tuple[str, torch.Tensor]]]:
    pairs: dict[str, dict[str, tuple[str, torch.Tensor]]] = {}
    for key, tensor in tensors.items():
        if len(key) > _MAX_KEY:
            raise CheckpointError(
                f"{path}: tensor '{key[:60]}...' has a name of {len(key)} characters; "
                f"{_MAX_KEY} are allowed"
            )
        found = _FACTOR.match(key.removeprefix(_PREFIX))
        if found is None:
            raise _unplaced(key, path)
        pair = pairs.setdefault(found["module"], {})
        if found["side"] in pair:
            raise CheckpointError(f"{path}: {found['module']} has lora_{found['side']} twice")
        pair[found["side"]] = (key, tensor)
    if not pairs:
        raise CheckpointError(f"{path} holds no LoRA tensors")
    return pairs


def _unplaced(key: str, path: Path) -> CheckpointError | UnsupportedAdapterError:
    for mark, words in _SPECIAL_TENSORS.items():
        if mark in key:
            return UnsupportedAdapterError(f"{path}: tensor {key!r}: {words} is not supported")
    return CheckpointError(
        f"{path}: tensor {key!r} is no lora_A or lora_B of a module; "
        "whole trained modules and other additions are not supported"
    )


def _checked(
    module: str, pair: dict[str, tuple[str, torch.Tensor]], config: LoraConfig, path: Path
) -> Factors:
    for side in "AB":
        if side not in pair:
            raise CheckpointError(f"{path}: {module} has no lora_{side}")
        key, tensor = pair[side]
        if tensor.dim() != 2 or tensor.dtype not in _FLOATS:
            raise CheckpointError(
                f"{path}: tensor {key!r} is {tuple(tensor.shape)} {tensor.dtype}; "
                "it must be a matrix of fp16, bf16, fp32 or fp64"
            )
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path}: tensor {key!r} holds NaN or infinite values")
    (key_a, A), (_, B) = pair["A"], pair["B"]
    rank = config.rank_of(module)
    if A.shape[0] != rank or B.shape[1] != rank:
        raise CheckpointError(
            f"{path}: tensor {key_a!r} has rank {A.shape[0]} and its B has rank {B.shape[1]}, "
            f"but {CONFIG_NAME} declares {rank}"
        )
    return Factors(A=A, B=B, scale=config.scale_of(module))
