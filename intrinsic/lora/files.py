"""The two files of a checkpoint: each is read once, whole and with an end in sight."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import safetensors
import torch

from intrinsic.errors import CheckpointError
from intrinsic.lora.safetensors_bytes import Bytes, tensors_in

_MAX_CONFIG_BYTES = 2**22
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}


def read_config_bytes(path: Path) -> bytes:
    """The bytes of a checkpoint's config.

    Raises `CheckpointError` where there is none, or more of it than any adapter needs.
    """
    try:
        _check_regular(path)
        if (size := path.stat().st_size) > _MAX_CONFIG_BYTES:
            raise CheckpointError(f"{path} has {size} bytes; a config may have {_MAX_CONFIG_BYTES}")
        return path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(
            f"{path.parent} has no {path.name}; pass a folder that PEFT's save_pretrained wrote"
        ) from None
    except (OSError, ValueError) as error:  # of a name that no system could have, as with a NUL
        raise CheckpointError(f"{path} cannot be read: {error}") from None


def read_weights_bytes(path: Path) -> Bytes:
    """The bytes of a safetensors file, once its header and its size were found to agree.

    So a file that only claims to be large is never read. Raises `CheckpointError`.
    """
    with _told(path):
        with safetensors.safe_open(path, framework="pt"):
            pass
        return _read(path)


def read_outline(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file by its header alone, on the device 'meta'.

    Raises `CheckpointError`, also where the file's size is another than the header says.
    """
    with _told(path), safetensors.safe_open(path, framework="pt") as file:
        parts = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
        return {
            key: torch.empty(
                part.get_shape(),
                dtype=_DTYPES.get(part.get_dtype(), torch.uint8),
                device="meta",
            )
            for key, part in parts.items()
        }


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What is wrong with a safetensors file, as a `CheckpointError`."""
    try:
        _check_regular(path)
        yield
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


def tensors_of(data: Bytes, path: Path) -> dict[str, torch.Tensor]:
    """The tensors in the bytes of the safetensors file `path`, as views of them.

    Raises `CheckpointError`.
    """
    try:
        return tensors_in(data)
    # torch refuses shapes beyond its integers with a TypeError or a RuntimeError of many lines.
    except (ValueError, TypeError, RuntimeError) as error:
        raise _unsound(path, error) from None


def _read(path: Path) -> Bytes:
    """All bytes of a file; numpy asks for large pages, which `Path.read_bytes` does without."""
    with path.open("rb", buffering=0) as file:
        data = np.empty(os.fstat(file.fileno()).st_size, np.uint8)
        whole = rest = memoryview(data)  # type: ignore[arg-type]
        while rest and (count := file.readinto(rest)):
            rest = rest[count:]
        return data[: len(whole) - len(rest)]


def _check_regular(path: Path) -> None:
    """Raise `CheckpointError` for a pipe or a device, which has no end."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise CheckpointError(f"{path} is a pipe or a device, not a file")


def _unsound(path: Path, error: Exception) -> CheckpointError:
    why = (str(error).splitlines() or [""])[0]
    return CheckpointError(f"{path} is not a sound safetensors file: {why[:200]}")
