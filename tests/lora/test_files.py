"""The files of a checkpoint are read once, and what changes meanwhile is found."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch

from intrinsic.errors import CheckpointError
from intrinsic.lora import read_checkpoint
from intrinsic.lora.digest import Digest
from tests.tiny import llama, write_adapter, write_files

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def test_the_config_that_is_hashed_is_the_one_that_was_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_adapter(tmp_path, llama(), alpha=8)
    honest = read_checkpoint(folder)
    opened: Any = Path.open
    (tmp_path / "other").write_text((folder / CONFIG).read_text().replace("8", "16"))

    def replaces_the_config(path: Path, *arguments: Any, **settings: Any) -> Any:
        file = opened(path, *arguments, **settings)
        if path.name == CONFIG and (tmp_path / "other").exists():
            (tmp_path / "other").rename(path)
        return file

    monkeypatch.setattr(Path, "open", replaces_the_config)
    found = read_checkpoint(folder)
    assert not (tmp_path / "other").exists()
    assert found.config == honest.config
    assert found.digest == honest.digest


@pytest.mark.parametrize("left", [0, 4, 100, -1])
def test_a_file_that_shrinks_after_its_header_was_checked_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    weights = write_adapter(tmp_path, llama()) / WEIGHTS
    safe_open: Any = safetensors.safe_open

    @contextmanager
    def shrinks(path: Path, framework: str) -> Iterator[None]:
        with safe_open(path, framework=framework):
            pass
        yield
        weights.write_bytes(weights.read_bytes()[:left])

    monkeypatch.setattr(safetensors, "safe_open", shrinks)
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors is not a sound"):
        read_checkpoint(tmp_path)


def test_a_file_that_is_gone_after_its_header_was_checked_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = write_adapter(tmp_path, llama()) / WEIGHTS

    @contextmanager
    def removes(path: Path, framework: str) -> Iterator[None]:
        yield
        weights.unlink()

    monkeypatch.setattr(safetensors, "safe_open", removes)
    with pytest.raises(CheckpointError, match=r"has no adapter_model\.safetensors"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("size", [0, 1, 2**20])
def test_a_digest_is_that_of_all_bytes_and_lets_go_of_them(size: int) -> None:
    data = np.arange(size, dtype=np.uint8)
    whole = hashlib.sha256(data.tobytes()).hexdigest()
    alive = weakref.ref(data)
    digest = Digest([b"", data[:5], data[5:].tobytes()])
    del data
    assert alive() is not None
    assert digest.hexdigest() == digest.hexdigest() == whole
    assert alive() is None


@pytest.mark.parametrize("name", ["model.x.lora_A.weight", "\U000e0001" * 240])
def test_a_tensor_of_endless_dimensions_or_escapes_makes_no_endless_message(
    tmp_path: Path, name: str
) -> None:
    tensors = {name: torch.ones([1] * 2000)}
    with pytest.raises(CheckpointError) as refused:
        read_checkpoint(write_files(tmp_path, tensors))
    assert len(str(refused.value).replace(str(tmp_path), "")) < 600


def test_patterns_of_endless_escapes_make_no_endless_message(tmp_path: Path) -> None:
    for number, key in enumerate(["\U000e0001" * 500, "(" + "\U000e0001" * 500]):
        with pytest.raises(CheckpointError) as refused:
            read_checkpoint(write_files(tmp_path / str(number), {}, None, rank_pattern={key: 0}))
        assert len(str(refused.value).replace(str(tmp_path), "")) < 600
