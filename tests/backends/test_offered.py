"""Checkpoints without files: held under a name, within the budget, until they are forgotten."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from intrinsic.backends import FunctionBackend
from intrinsic.backends.host_tier import HostTier
from intrinsic.backends.transformers_backend import TransformersBackend
from intrinsic.errors import CapabilityError, CapacityError, CheckpointError
from intrinsic.lora import LoraCheckpoint, read_checkpoint
from intrinsic.mixture import Mixture
from tests.bus.backends import both_backends
from tests.tiny import llama, tokenizer, tokens, write_adapter

NAME = "made:here"


def made(folder: Path, seed: int = 0, r: int = 4) -> LoraCheckpoint:
    checkpoint = read_checkpoint(write_adapter(folder, llama(), seed=seed, r=r))
    return replace(checkpoint, path=Path(NAME))


def test_what_is_offered_is_read_by_its_name_and_gone_once_forgotten(tmp_path: Path) -> None:
    tier = HostTier(10**9)
    first, second = made(tmp_path / "a"), made(tmp_path / "b", seed=1, r=8)
    tier.offer(NAME, first)
    assert tier.read(NAME) is tier.read(Path(NAME), ahead=True) is first
    tier.offer(NAME, second)
    assert tier.read(NAME) is second
    found = tier.statistics()
    assert (found.bytes_by_path, found.bytes_used) == (
        {NAME: second.bytes_used},
        second.bytes_used,
    )
    assert (found.hits, found.misses, found.evictions) == (0, 0, 0)
    tier.forget(NAME)
    assert tier.statistics().bytes_used == 0
    with pytest.raises(CheckpointError):
        tier.read(NAME)


def test_copies_of_files_give_way_and_never_the_other_way_round(tmp_path: Path) -> None:
    folders = [write_adapter(tmp_path / f"f{n}", llama(), seed=n) for n in range(3)]
    checkpoint = made(tmp_path / "made")
    size = checkpoint.bytes_used
    tier = HostTier(2 * size)
    for folder in folders[:2]:
        tier.read(folder)
    tier.offer(NAME, checkpoint)
    assert list(tier.statistics().bytes_by_path) == [str(folders[1]), NAME]
    for folder in folders:
        tier.read(folder)
    assert list(tier.statistics().bytes_by_path) == [str(folders[2]), NAME]
    tier.limit(size)
    assert list(tier.statistics().bytes_by_path) == [NAME]
    tier.read(folders[0])  # served, and not kept
    assert list(tier.statistics().bytes_by_path) == [NAME]
    tier.limit(0)
    assert tier.read(NAME) is checkpoint


def test_what_does_not_fit_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    small, large = made(tmp_path / "a"), made(tmp_path / "b", r=8)
    tier = HostTier(large.bytes_used)
    tier.offer(NAME, small)
    with pytest.raises(CapacityError, match=rf"made:other: it takes {large.bytes_used} bytes"):
        tier.offer("made:other", large)
    assert tier.statistics().bytes_by_path == {NAME: small.bytes_used}
    tier.offer(NAME, large)  # in its own place it fits
    assert tier.statistics().bytes_by_path == {NAME: large.bytes_used}
    with pytest.raises(CapacityError, match="of 0; raise max_host_bytes"):
        HostTier(0).offer(NAME, small)


@both_backends
async def test_an_offered_adapter_answers_as_its_files_do(tmp_path: Path) -> None:
    backend = TransformersBackend(llama(), tokenizer())
    before = await backend.fingerprint()
    backend.offer_lora_adapter(NAME, made(tmp_path / "a"))
    expected = await backend.prefetch_lora_adapter(NAME)
    info = await backend.load_lora_adapter(NAME, "made@1")
    assert info.bytes_used == expected
    await backend.load_lora_adapter(str(tmp_path / "a"), "stored@1")
    logits = []
    for adapter in ("made@1", "stored@1"):
        with torch.no_grad(), backend.engine.activate(Mixture.of({adapter: 1.0})):
            logits.append(backend.model(tokens()).logits)
    assert torch.equal(*logits)
    for adapter in ("made@1", "stored@1"):
        await backend.unload_lora_adapter(adapter)
    backend.forget_lora_adapter(NAME)
    with pytest.raises(CheckpointError):
        await backend.load_lora_adapter(NAME, "made@1")
    assert await backend.fingerprint() == before


def test_a_backend_without_weights_says_so(tmp_path: Path) -> None:
    async def answer(prompt: object) -> str:
        return "none"

    backend = FunctionBackend(answer, name="hosted")
    assert not backend.supports("offer")
    with pytest.raises(CapabilityError, match="'hosted' cannot hold an adapter"):
        backend.offer_lora_adapter(NAME, made(tmp_path / "a"))
