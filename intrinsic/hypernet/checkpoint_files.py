"""The two files of a saved hypernetwork, read with care."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from intrinsic.errors import HypernetError
from intrinsic.hypernet.network import HyperNetwork

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
FORMAT = "intrinsic-hypernet"
VERSION = 1


def read_settings(path: Path) -> dict[str, Any]:
    """The settings of a hypernetwork. Raises `HypernetError` for any other file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HypernetError(
            f"{path} cannot be read ({error.strerror or error}); name a folder that "
            "'intrinsic hypernet train' wrote"
        ) from None
    except (ValueError, RecursionError) as error:
        raise HypernetError(f"{path} is damaged ({error}); save it again") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise HypernetError(
            f"{path} is not that of a hypernetwork; name a folder that "
            "'intrinsic hypernet train' wrote"
        )
    if found.get("version") != VERSION:
        raise HypernetError(
            f"{path} has the version {found.get('version')!r}; this one reads {VERSION}: "
            "train it again, or install the version that wrote it"
        )
    return found


def read_tensors(path: Path, digest: object = None) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, of these bytes (SHA-256 in hex) where a digest is given.

    Raises `HypernetError`.
    """
    try:
        data = path.read_bytes()
        if digest is not None and hashlib.sha256(data).hexdigest() != digest:
            raise HypernetError(
                f"{path} has other bytes than were saved; the checkpoint is damaged: save it again"
            )
        return dict(safetensors.torch.load(data))
    except (OSError, safetensors.SafetensorError) as error:
        raise HypernetError(
            f"{path} cannot be read ({str(error)[:200]}); the checkpoint is damaged: save it again"
        ) from None


def filled(
    build: Callable[[], HyperNetwork], tensors: Mapping[str, torch.Tensor], path: Path
) -> HyperNetwork:
    """A network with the tensors in it; the caller's random state stays as it is.

    Nothing is allocated before all shapes agree. Raises `HypernetError`, and what `build` raises.
    """
    with torch.device("meta"):
        own = {f"network.{name}": tensor for name, tensor in build().state_dict().items()}
    wrong = sorted(own.keys() ^ tensors.keys()) or sorted(
        name for name, tensor in tensors.items() if tensor.shape != own[name].shape
    )
    if wrong:
        raise HypernetError(
            f"{path} does not hold the tensors that {CONFIG} declares (the first is {wrong[0]}); "
            "the checkpoint is damaged: save it again"
        )
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise HypernetError(f"{path}: {name} holds NaN or infinite values; save it again")
    with torch.random.fork_rng(devices=[]):
        network = build()
    network.to(next(iter(tensors.values())).dtype)
    network.load_state_dict({name.removeprefix("network."): t for name, t in tensors.items()})
    return network
