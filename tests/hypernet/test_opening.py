"""A checkpoint is put to work on the model and with the encoder that it belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from intrinsic.errors import CapabilityError, HypernetError
from intrinsic.hypernet.checkpoint import save
from intrinsic.hypernet.encoders import HashedWords, SentenceTexts
from intrinsic.hypernet.expert_options import ExpertOptions
from intrinsic.hypernet.gate import Gate
from intrinsic.hypernet.marks import BaseMark, EncoderMark
from intrinsic.hypernet.network import HyperNetwork
from intrinsic.hypernet.opening import open_expert
from intrinsic.hypernet.targets import targets_of
from intrinsic.manager import AdapterManager
from tests.bus.backends import both_backends
from tests.hypernet.nets import shaken
from tests.hypernet.serving import (
    DESCRIPTIONS,
    DIMENSION,
    KNOWN,
    exact,
    gate,
    logits,
    manager_of,
    network,
)
from tests.manager.fakes import FakeBackend, registry_of
from tests.tiny import llama


def saved(folder: Path, *, gated: bool = True, model: Any = None) -> Path:
    return save(
        network(),
        folder,
        base=BaseMark.of(model or llama(), "tiny/llama"),
        encoder=EncoderMark.of(HashedWords(DIMENSION)),
        gate=gate() if gated else None,
    )


@both_backends
async def test_it_answers_as_the_network_that_was_saved(tmp_path: Path) -> None:
    manager = manager_of(tmp_path / "adapters")
    await manager.fuse("a")  # the weights are others meanwhile
    expert = await open_expert(saved(tmp_path / "net"), manager, options=ExpertOptions(weight=0.5))
    assert expert.encoder.name == "hashed-words:64:0"
    key = await expert.offer(KNOWN)
    assert isinstance(key, str)
    async with manager.lease({key: 0.5}) as lease:
        found = logits(manager, lease.mixture)
    reference = exact(manager, expert, {KNOWN: 0.5})
    torch.testing.assert_close(found.double(), reference, atol=1e-4, rtol=1e-4)
    assert not isinstance(await expert.offer("what is asthma"), str)


@both_backends
async def test_another_base_or_encoder_and_no_gate_are_refused(tmp_path: Path) -> None:
    manager = manager_of(tmp_path / "adapters")
    with pytest.raises(HypernetError, match="other weights"):
        await open_expert(saved(tmp_path / "other", model=llama(seed=5)), manager)
    folder = saved(tmp_path / "net")
    with pytest.raises(HypernetError, match="dimension 64 against 32"):
        await open_expert(folder, manager, encoder=HashedWords(32))
    with pytest.raises(HypernetError, match="other vectors for the same sentence"):
        await open_expert(folder, manager, encoder=HashedWords(DIMENSION, seed=3))
    with pytest.raises(HypernetError, match="has no gate"):
        await open_expert(saved(tmp_path / "open", gated=False), manager)
    weightless = AdapterManager(FakeBackend(), registry_of(tmp_path / "none", ""))
    with pytest.raises(CapabilityError, match="'fake' cannot take adapters"):
        await open_expert(folder, weightless)


@pytest.fixture(scope="module")
def sentences() -> tuple[SentenceTexts, EncoderMark, Gate]:
    """The bundled encoder, its mark, and a gate for it."""
    encoder = SentenceTexts()
    return encoder, EncoderMark.of(encoder), Gate(encoder.encode(DESCRIPTIONS), 0.3)


@both_backends
async def test_a_real_encoder_works_beside_either_event_loop(
    tmp_path: Path, sentences: tuple[SentenceTexts, EncoderMark, Gate]
) -> None:
    manager = manager_of(tmp_path / "adapters")
    encoder, mark, own_gate = sentences
    torch.manual_seed(0)
    net = shaken(HyperNetwork(targets_of(llama()), encoder.dimension, 4, 8.0), 0.1)
    base = BaseMark.of(llama(), "tiny/llama")
    folder = save(net, tmp_path / "net", base=base, encoder=mark, gate=own_gate)
    expert = await open_expert(folder, manager, encoder=encoder)
    await expert.warm_up()
    assert isinstance(await expert.offer("please write the word backwards, reversed"), str)
    assert not isinstance(await expert.offer("what is asthma"), str)
