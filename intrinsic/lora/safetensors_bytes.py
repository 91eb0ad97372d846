"""Tensors in the bytes of a safetensors file, as views: nothing is copied.

The file is eight bytes with the length n of the header (little-endian), n bytes of JSON, which give
each tensor's dtype, shape and place, and the tensors' bytes one after the other
(https://github.com/huggingface/safetensors, section "Format").
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

_MAX_HEADER = 2**22
"""It stays in memory with the tensors, which are what is counted."""

Bytes = npt.NDArray[np.uint8]

_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}


def tensors_in(data: Bytes) -> dict[str, torch.Tensor]:
    """The tensors by key, in the order of their bytes, which they share with `data`.

    Raises `ValueError` where the header is none or does not agree with the bytes.
    """
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    if len(data) < 8 or start > len(data):
        raise ValueError("the header is longer than the file")
    if start > _MAX_HEADER:
        raise ValueError(f"the header has {start - 8} bytes; {_MAX_HEADER - 8} are allowed")
    header = _parsed(data[8:start].tobytes())
    tensors: dict[str, torch.Tensor] = {}
    at = 0
    for key, dtype, shape, begin, end in sorted(_entries(header), key=lambda entry: entry[3:]):
        if begin != at or start + end > len(data):
            raise ValueError(f"tensor {key[:100]!r} does not follow the one before it")
        tensors[key] = _view(data, start + begin, dtype, shape)
        at = end
    if start + at != len(data):
        raise ValueError("the file does not end where its last tensor does")
    return tensors


def all_in_one(data: Bytes, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """All values as one vector, where the tensors have one dtype and are aligned; else None."""
    dtypes = {tensor.dtype for tensor in tensors.values()}
    count = sum(tensor.numel() for tensor in tensors.values())
    if len(dtypes) != 1 or not count:
        return None
    dtype = dtypes.pop()
    start = len(data) - count * dtype.itemsize
    return None if start % dtype.itemsize else _view(data, start, dtype, (count,))


def _parsed(header: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the header is no JSON: {str(error)[:100]}") from None
    if not isinstance(parsed, dict):
        raise ValueError("the header is no JSON object")
    return parsed


def _entries(
    header: Mapping[str, Any],
) -> list[tuple[str, torch.dtype, tuple[int, ...], int, int]]:
    entries: list[tuple[str, torch.dtype, tuple[int, ...], int, int]] = []
    for key, entry in header.items():
        if key == "__metadata__":
            continue
        if not isinstance(entry, dict):
            raise ValueError(f"tensor {key[:100]!r} is not described")
        dtype = _DTYPES.get(str(entry.get("dtype")))
        if dtype is None:
            raise ValueError(f"tensor {key[:100]!r} has the dtype {str(entry.get('dtype'))[:20]!r}")
        shape, offsets = _integers(entry.get("shape")), _integers(entry.get("data_offsets"))
        if shape is None or offsets is None or len(offsets) != 2:
            raise ValueError(f"tensor {key[:100]!r} has no sound shape or place")
        begin, end = offsets
        if end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"tensor {key[:100]!r} has other bytes than its shape takes")
        entries.append((key, dtype, shape, begin, end))
    return entries


def _integers(value: object) -> tuple[int, ...] | None:
    if not isinstance(value, list) or len(value) > 64:
        return None
    for number in value:  # a loop, which for so few takes half of the time that all() does
        if type(number) is not int or not 0 <= number < 2**62:
            return None
    return tuple(value)


def _view(data: Bytes, start: int, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    count = math.prod(shape)
    if not count:
        return torch.empty(shape, dtype=dtype)
    if start % dtype.itemsize:
        data, start = data[start : start + count * dtype.itemsize].copy(), 0
    return torch.frombuffer(data, dtype=dtype, count=count, offset=start).view(shape)
