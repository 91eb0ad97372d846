"""The model that an adapter is trained for: from a folder or the hub's cache, never downloaded."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from intrinsic.backends.pretrained import load_pretrained
from intrinsic.bundled import BUNDLED_NAME, base_path
from intrinsic.engine.target import Target
from intrinsic.errors import BackendError, ConfigError, IncompatibleAdapterError

_READ = (".json", ".safetensors", ".bin", ".jinja", ".model", ".txt")
_ENDS = 1 << 20


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base by its name for people, its folder, its revision (a commit of the hub, or empty).

    `digest` is a SHA-256 over names and sizes of the files, and their first and last MiB.
    """

    name: str
    folder: Path
    revision: str
    digest: str


def find_base(model: str) -> BaseModel:
    """Find a folder, `intrinsic/base` (the bundled model), or a hub name that is in the cache.

    Raises `BackendError` where there is none; nothing is downloaded.
    """
    folder, revision = base_path() if model == BUNDLED_NAME else _expanded(model), ""
    if model and folder.is_dir():
        bundled = folder.resolve() == base_path().resolve()
        name = BUNDLED_NAME if bundled else str(folder.resolve())
    else:
        name, folder = model, _cached(model)
        revision = folder.name
    if not (folder / "config.json").is_file():
        raise BackendError(f"{folder} is no model: it has no config.json; name another with --base")
    return BaseModel(name, folder, revision, _digest(folder))


def load_base(
    base: BaseModel, dtype: torch.dtype
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load model and tokenizer on the CPU. Raises `BackendError` where that fails."""
    model, tokenizer = load_pretrained(str(base.folder), dtype)
    model.config.use_cache = False
    return model, tokenizer


def context_of(model: PreTrainedModel) -> int | None:
    """How many tokens the model reads, where its config says it."""
    config = model.config.get_text_config()
    found = getattr(config, "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def stops_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end an answer."""
    given = getattr(model.generation_config, "eos_token_id", None)
    listed = given if isinstance(given, list | tuple) else [given]
    return sorted({token for token in (*listed, tokenizer.eos_token_id) if token is not None})


def choose_targets(model: PreTrainedModel, wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the layers to adapt: those that are named, or all matrices but the output head.

    A target is a layer's last name, or the end of its full name. Raises `ConfigError` for one
    that no matrix has.
    """
    names = matrices_of(model)
    ends = sorted({name.rpartition(".")[2] for name in names})
    if not ends:
        raise IncompatibleAdapterError(
            f"{type(model).__name__} has no matrices that LoRA can be applied to; "
            "name an unquantised causal model with --base"
        )
    if not wanted:
        head = getattr(model, "get_output_embeddings", lambda: None)()
        heads = {name for name in names if model.get_submodule(name) is head}
        kept = {name.rpartition(".")[2] for name in names if name not in heads}
        return tuple(sorted(kept))
    unknown = [end for end in wanted if not any(f".{name}".endswith(f".{end}") for name in names)]
    if unknown:
        near = difflib.get_close_matches(unknown[0], ends, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ConfigError(
            f"--targets: the model has no matrix {', '.join(map(repr, unknown))}{hint}; "
            f"it has {', '.join(ends)}"
        )
    return tuple(sorted(set(wanted)))


def matrices_of(model: nn.Module) -> list[str]:
    """Full names of the layers that are plain matrices, nn.Linear or Conv1D."""
    names = []
    for name, layer in model.named_modules():
        try:
            if not Target(name, layer).is_embedding:
                names.append(name)
        except IncompatibleAdapterError:
            continue
    return names


def _expanded(model: str) -> Path:
    try:
        return Path(model).expanduser()
    except RuntimeError:  # the home of a user who is not there
        return Path(model)


def _cached(model: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, local_files_only=True))
    except (OSError, ValueError) as error:
        raise BackendError(
            f"the base model {model!r} is no folder here and not in the hub's cache, and nothing "
            "is downloaded; name a folder with config.json, weights and tokenizer, or fetch it "
            f"first (hf download {model or 'NAME'})"
        ) from error


def _digest(folder: Path) -> str:
    found = hashlib.sha256()
    try:
        for path in sorted(folder.iterdir()):
            if path.suffix not in _READ or not path.is_file():
                continue
            size = path.stat().st_size
            found.update(f"{path.name}\0{size}\0".encode())
            with path.open("rb") as file:
                found.update(file.read(_ENDS))
                file.seek(max(_ENDS, size - _ENDS))
                found.update(file.read(_ENDS))
    except OSError as error:
        raise BackendError(f"the base model in {folder} cannot be read: {error}") from error
    return found.hexdigest()
