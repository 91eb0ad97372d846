"""What is true of an adapter's files, found without a model."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intrinsic.errors import CheckpointError, ConfigError
from intrinsic.registry.entry import CONFIG_NAME

if TYPE_CHECKING:
    import torch

    from intrinsic.lora import Factors, LoraConfig

WEIGHTS_NAME = "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class Inspection:
    """A sound checkpoint: what it changes, what it holds, and which bytes it is.

    `digest` is the SHA-256, in hex, of the bytes of `adapter_config.json` followed by those of
    `adapter_model.safetensors`; `bytes` is how many that are. No other file counts, so that the
    card may change. `modules` maps the paths that the model gives its layers, without PEFT's
    prefix, to `(in, out)`; of an embedding these are the number of embeddings and their width.
    `ranks` and `kinds` (`lora`, `embedding`, `dora`, `lora_bias`) are those that occur.
    """

    digest: str
    bytes: int
    ranks: tuple[int, ...]
    modules: Mapping[str, tuple[int, int]]
    kinds: tuple[str, ...]
    dtype: str
    base_model: str = ""
    base_revision: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return plain values; `from_json` takes them back."""
        lists = {"ranks": list(self.ranks), "kinds": list(self.kinds)}
        return asdict(self) | lists | {"modules": {k: list(v) for k, v in self.modules.items()}}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Inspection:
        """Build it from what `as_json` returned. Raises `ConfigError` for anything else."""
        try:
            return cls(
                **dict(values)
                | {
                    "ranks": tuple(values["ranks"]),
                    "kinds": tuple(values["kinds"]),
                    "modules": read_shapes(values["modules"]),
                }
            )
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise ConfigError(
                f"{dict(values)!r:.80} is no inspection ({error}); inspect the adapter again"
            ) from None


def read_shapes(values: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Module paths with `(in, out)`, from JSON. Raises `ValueError` or `TypeError`."""
    return {str(name): (int(into), int(out)) for name, (into, out) in values.items()}


def inspect(folder: str | Path) -> Inspection:
    """Read and check a PEFT checkpoint's folder; nothing is changed.

    Checks what `read_checkpoint` checks. Raises `CheckpointError` or `UnsupportedAdapterError`,
    naming file and tensor.
    """
    from intrinsic.lora import read_checkpoint

    checkpoint = read_checkpoint(folder)
    found = _found(checkpoint.config, checkpoint.factors, checkpoint.path)
    return replace(found, digest=checkpoint.digest, bytes=checkpoint.content.size)


def inspect_header(folder: str | Path) -> Inspection:
    """As `inspect`, by config and header alone: no value is read, and there is no digest."""
    from intrinsic.lora.checkpoint import read_outline_of

    config, factors = read_outline_of(folder)
    return _found(config, factors, Path(folder).expanduser())


def _found(config: LoraConfig, factors: Mapping[str, Factors], folder: Path) -> Inspection:
    tensors = list(_tensors(factors.values()))
    return Inspection(
        digest="",
        bytes=0,
        ranks=tuple(sorted({one.rank for one in factors.values()})),
        modules={name: (int(one.A.shape[1]), one.out_features) for name, one in factors.items()},
        kinds=tuple(kind for kind, has in _kinds(factors.values()).items() if has),
        dtype=", ".join(sorted({str(t.dtype).removeprefix("torch.") for t in tensors})),
        base_model=config.base_model,
        base_revision=_revision(config, folder / CONFIG_NAME),
    )


def digest_of(folder: str | Path) -> str:
    """The digest that `inspect` gives, without checking or keeping anything of the files.

    Raises `CheckpointError` where one is missing, is no plain file or cannot be read.
    """
    found = hashlib.sha256()
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        path = Path(folder) / name
        try:
            path = Path(folder).expanduser() / name
            if path.exists() and not path.is_file():
                raise CheckpointError(f"{path} is no plain file")
            with path.open("rb") as file:
                hashlib.file_digest(file, lambda: found)
        except FileNotFoundError:
            raise CheckpointError(f"{path.parent} has no {name}") from None
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from None
    return found.hexdigest()


def _kinds(factors: Collection[Factors]) -> dict[str, bool]:
    return {
        "lora": any(not one.embedding for one in factors),
        "embedding": any(one.embedding for one in factors),
        "dora": any(one.magnitude is not None for one in factors),
        "lora_bias": any(one.bias is not None for one in factors),
    }


def _tensors(factors: Iterable[Factors]) -> Iterator[torch.Tensor]:
    for one in factors:
        yield from (t for t in (one.A, one.B, one.bias, one.magnitude) if t is not None)


def _revision(config: LoraConfig, path: Path) -> str:
    revision = config.extra.get("revision")
    if not isinstance(revision, str | None) or len(revision or "") > 200:
        raise CheckpointError(
            f"{path}: revision is {revision!r:.80}; it must be the name of a revision"
        )
    return revision or ""
