"""Our view of a safetensors file is the library's, and bytes that lie are refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intrinsic.lora.safetensors_bytes import Bytes, all_in_one, tensors_in

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
DTYPES = (*FLOATS, torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool)


def as_bytes(data: bytes) -> Bytes:
    return np.frombuffer(bytearray(data), np.uint8)


def file_of(header: object, size: int = 0) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(size)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda key: key != "__metadata__"),
        st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 4), max_size=3)),
        max_size=5,
    )
)
def test_it_reads_what_the_library_writes(
    described: dict[str, tuple[torch.dtype, list[int]]],
) -> None:
    torch.manual_seed(0)
    tensors = {k: (torch.randn(s) * 9).to(dtype) for k, (dtype, s) in described.items()}
    data = safetensors.torch.save(tensors, metadata={"format": "pt"})
    found = tensors_in(as_bytes(data))
    assert found.keys() == tensors.keys()
    for key, tensor in tensors.items():
        assert found[key].dtype == tensor.dtype
        assert torch.equal(found[key], tensor)


def test_tensors_are_views_of_the_bytes_and_all_values_one_vector() -> None:
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([7.0])}
    data = as_bytes(safetensors.torch.save(tensors))
    found = tensors_in(data)
    whole = all_in_one(data, found)
    assert whole is not None
    assert sorted(whole.tolist()) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0]
    data[-4:] = np.frombuffer(np.float32(9.0).tobytes(), np.uint8)
    assert 9.0 in [*found["a"].reshape(-1).tolist(), *found["b"].tolist()]
    mixed = as_bytes(safetensors.torch.save({"a": torch.ones(2), "b": torch.ones(2).half()}))
    assert all_in_one(mixed, tensors_in(mixed)) is None
    assert all_in_one(data, {}) is None


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "longer than the file"),
        (b"\x02\0\0\0\0\0\0", "longer than the file"),
        ((2**63).to_bytes(8, "little") + b"{}", "longer than the file"),
        (file_of(b"[]"), "no JSON object"),
        (file_of(b"{"), "no JSON"),
        (file_of(b"[" * 100_000), "no JSON"),
        (file_of(b"\xff{}"), "no JSON"),
        (file_of({"a": 5}), "'a' is not described"),
        (file_of({"a": entry(dtype="F4")}, 8), "'a' has the dtype 'F4'"),
        (file_of({"a": entry(dtype=None)}, 8), "'a' has the dtype 'None'"),
        (file_of({"a": entry(shape=[-2], offsets=[0, -8])}, 8), "no sound shape"),
        (file_of({"a": entry(shape=[True, 2])}, 8), "no sound shape"),
        (file_of({"a": entry(shape=[2.0])}, 8), "no sound shape"),
        (file_of({"a": entry(shape=[2**70])}, 8), "no sound shape"),
        (file_of({"a": entry(offsets=[0, 8, 9])}, 8), "no sound shape"),
        (file_of({"a": entry(shape=[3])}, 8), "other bytes than its shape"),
        (file_of({"a": entry(shape=[2**40, 2**40])}, 8), "other bytes than its shape"),
        (file_of({"a": entry()}, 7), "does not follow"),
        (file_of({"a": entry(offsets=[4, 12])}, 12), "does not follow"),
        (file_of({"a": entry(), "b": entry()}, 8), "does not follow"),
        (file_of({"a": entry()}, 9), "does not end"),
        (file_of({}, 1), "does not end"),
    ],
)
def test_bytes_that_lie_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tensors_in(as_bytes(data))


def test_tensors_that_are_not_aligned_are_copied() -> None:
    header = json.dumps({"a": entry(offsets=[0, 8])}).encode()
    header += b" " * (5 - len(header) % 4)  # so that 8 + its length is no multiple of four
    values = np.array([1.5, -2.5], np.float32).tobytes()
    data = len(header).to_bytes(8, "little") + header + values
    assert (8 + len(header)) % 4
    assert tensors_in(as_bytes(data))["a"].tolist() == [1.5, -2.5]


def test_what_is_not_aligned_takes_no_more_than_its_own_bytes() -> None:
    tensors = {f"t{n}": torch.randn(1000) for n in range(50)}
    sound = safetensors.torch.save(tensors)
    size = int.from_bytes(sound[:8], "little")
    padded = (size + 1).to_bytes(8, "little") + sound[8 : 8 + size] + b" " + sound[8 + size :]
    data = as_bytes(padded)
    found = tensors_in(data)
    assert sum(t.untyped_storage().nbytes() for t in found.values()) == 50 * 4000
    assert all(torch.equal(found[key], tensor) for key, tensor in tensors.items())
    assert all_in_one(data, found) is None


def test_a_header_that_would_stay_in_memory_uncounted_is_refused() -> None:
    data = safetensors.torch.save({"a": torch.ones(2)}, metadata={"note": "x" * 2**22})
    with pytest.raises(ValueError, match=r"the header has \d+ bytes; 4194296 are allowed"):
        tensors_in(as_bytes(data))
