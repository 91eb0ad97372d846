"""A LoRA checkpoint, read once and checked in full before anything is changed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from intrinsic.errors import CheckpointError, UnsupportedAdapterError
from intrinsic.lora.config import CONFIG_NAME, LoraConfig, parse_config
from intrinsic.lora.digest import Digest
from intrinsic.lora.files import read_config_bytes, read_outline, read_weights_bytes, tensors_of
from intrinsic.lora.safetensors_bytes import all_in_one
from intrinsic.lora.tensors import BASE_COPIES, FLOATS, Parts, peak_of, place
from intrinsic.lora.wording import named

WEIGHTS_NAME = "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class Factors:
    """One module's update: `A (r, in)`, `B (out, r)`, scale s.

    `bias (out,)` is trained beside B and scaled with it (PEFT's `lora_bias`). `magnitude (out,)`
    makes it DoRA. For an `embedding`, `in` is the number of embeddings and `out` their width. No
    value of A, B and bias is larger than `peak`, where that is known.
    """

    A: torch.Tensor
    B: torch.Tensor
    scale: float
    bias: torch.Tensor | None = None
    magnitude: torch.Tensor | None = None
    embedding: bool = False
    peak: float | None = None

    @property
    def rank(self) -> int:
        """r, the number of rows of A."""
        return int(self.A.shape[0])

    @property
    def out_features(self) -> int:
        """The number of rows of B."""
        return int(self.B.shape[0])

    def B_in(self, dtype: torch.dtype) -> torch.Tensor:  # noqa: N802 - as the field is called
        """B in a dtype; where it is a product, it was made in that dtype."""
        return self.B.to(dtype)

    @property
    def stored(self) -> tuple[torch.Tensor, ...]:
        """What a layer keeps of them as they are."""
        return tuple(t for t in (self.A, self.B, self.bias) if t is not None)

    @property
    def is_plain(self) -> bool:
        """Whether `W + s B A` is all of it."""
        return self.bias is None and self.magnitude is None and not self.embedding


@dataclass(frozen=True, slots=True)
class LoraCheckpoint:
    """The factors of every module by the module's name in the model, with the config.

    `base_copies` are parameters of the base that PEFT stored along, by name, as it does where an
    embedding or the head is a target.
    """

    path: Path
    config: LoraConfig
    factors: Mapping[str, Factors]
    content: Digest
    bytes_used: int
    base_copies: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of both files' bytes, in hex; found at the first time of asking."""
        return self.content.hexdigest()


def read_checkpoint(folder: str | Path) -> LoraCheckpoint:
    """Read a folder that PEFT's `save_pretrained` wrote.

    Checks the config, that every tensor of the file has its place in a declared target, that shapes
    agree with the declared ranks, and that all values are finite. Raises `CheckpointError` or
    `UnsupportedAdapterError`, naming file and tensor.
    """
    folder = _expanded(folder)
    settings = read_config_bytes(folder / CONFIG_NAME)
    config = parse_config(settings, folder / CONFIG_NAME)
    path = folder / WEIGHTS_NAME
    data = read_weights_bytes(path)
    tensors = tensors_of(data, path)
    whole = all_in_one(data, tensors)
    found = peak_of(whole) if whole is not None and whole.dtype in FLOATS else math.nan
    peak = found if math.isfinite(found) else None
    modules = place(tensors, path, finite=peak is not None)
    return LoraCheckpoint(
        path=folder,
        config=config,
        factors=_factors(modules, config, path, peak),
        content=Digest([settings, data]),
        bytes_used=sum(t.numel() * t.element_size() for t in tensors.values()),
        base_copies={
            f"{module}.{name}": parts[part][1]
            for module, parts in modules.items()
            for part, name in BASE_COPIES.items()
            if part in parts
        },
    )


def read_outline_of(folder: str | Path) -> tuple[LoraConfig, Mapping[str, Factors]]:
    """The config, and the factors by module on the device 'meta', from the file's header alone.

    Checks what `read_checkpoint` checks, but for values, which are not read. Raises what it raises.
    """
    folder = _expanded(folder)
    config = parse_config(read_config_bytes(folder / CONFIG_NAME), folder / CONFIG_NAME)
    path = folder / WEIGHTS_NAME
    return config, _factors(place(read_outline(path), path, finite=True), config, path, None)


def _factors(
    modules: Mapping[str, Parts], config: LoraConfig, path: Path, peak: float | None
) -> dict[str, Factors]:
    changed = {name: own for name, own in modules.items() if own.keys() - BASE_COPIES.keys()}
    extra = [name for name in changed if not config.may_change(name)]
    if extra:
        more = f" (and {len(extra) - 1} more)" if len(extra) > 1 else ""
        raise CheckpointError(
            f"{path} has tensors for {extra[0]}{more}, which {CONFIG_NAME} does not declare as a "
            "target; save config and weights together again"
        )
    return {name: _checked(name, own, config, path, peak) for name, own in changed.items()}


def _expanded(folder: str | Path) -> Path:
    try:
        return Path(folder).expanduser()
    except RuntimeError as error:
        raise CheckpointError(f"{folder} cannot be found: {error}") from None


def _checked(
    module: str, parts: Parts, config: LoraConfig, path: Path, peak: float | None
) -> Factors:
    embedding = "embedding A" in parts or "embedding B" in parts
    kind = "embedding " if embedding else ""
    for side in "AB":
        if kind + side not in parts:
            raise CheckpointError(f"{path}: {module} has no lora_{kind.replace(' ', '_')}{side}")
    (key_a, A), (_, B) = parts[f"{kind}A"], parts[f"{kind}B"]
    rank = config.rank_of(module)
    if A.shape[0] != rank or B.shape[1] != rank:
        raise CheckpointError(
            f"{path}: tensor {named(key_a)} has rank {A.shape[0]} and its B has rank {B.shape[1]}, "
            f"but {CONFIG_NAME} declares {rank}"
        )
    _check_kinds(module, parts, config, path)
    bias, magnitude = (_vector(part, parts, B, path) for part in ("bias", "magnitude"))
    return Factors(A, B, config.scale_of(module), bias, magnitude, embedding, peak)


def _check_kinds(module: str, parts: Parts, config: LoraConfig, path: Path) -> None:
    """Bias and magnitudes are where the config declares them, and nowhere else."""
    embedding = "embedding A" in parts
    if embedding and "magnitude" in parts:
        raise UnsupportedAdapterError(f"{path}: {module}: DoRA on embeddings is not supported")
    declared = {"magnitude": config.use_dora, "bias": config.lora_bias and not embedding}
    for part, setting in (("magnitude", "use_dora"), ("bias", "lora_bias")):
        if (part in parts) != declared[part]:
            found, said = ("a", "not") if part in parts else ("no", "")
            raise CheckpointError(
                f"{path}: {module} has {found} {part}, "
                f"but {setting} is {f'{said} set'.strip()} in {CONFIG_NAME}"
            )


def _vector(part: str, parts: Parts, B: torch.Tensor, path: Path) -> torch.Tensor | None:
    if part not in parts:
        return None
    key, vector = parts[part]
    if vector.shape[0] != B.shape[0]:
        raise CheckpointError(
            f"{path}: tensor {named(key)} has {vector.shape[0]} values for {B.shape[0]} outputs"
        )
    return vector
