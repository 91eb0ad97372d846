"""Work of several passes keeps what it needs between them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from intrinsic.engine import LoraEngine
from intrinsic.errors import AdapterInUseError, AdapterNotLoadedError, MixtureError
from intrinsic.lora import read_checkpoint
from intrinsic.mixture import BASE, Mixture
from tests.tiny import llama, tokens, write_adapter

A = Mixture.of({"a": 0.5})


@pytest.fixture
def engine(tmp_path: Path) -> LoraEngine:
    model = llama()
    engine = LoraEngine(model)
    engine.load(read_checkpoint(write_adapter(tmp_path / "a", model)), "a")
    return engine


def test_what_is_held_can_neither_be_unloaded_nor_merged_over(engine: LoraEngine) -> None:
    with engine.hold(A):
        with pytest.raises(AdapterInUseError):
            engine.unload("a")
        with pytest.raises(AdapterInUseError):
            engine.merge(BASE)
    engine.merge(A)
    with engine.hold(A), pytest.raises(AdapterInUseError):
        engine.restore()
    with pytest.raises(MixtureError), engine.hold(BASE):
        pass
    engine.restore()
    engine.unload("a")
    with pytest.raises(AdapterNotLoadedError), engine.hold(A):
        pass


def test_holding_activates_nothing_by_itself(engine: LoraEngine) -> None:
    ids = tokens()
    with torch.no_grad():
        base = engine.model(ids).logits
        with engine.activate(A):
            changed = engine.model(ids).logits
        with engine.hold(A) as held, engine.hold([A, BASE]) as rows:
            for _ in range(2):
                assert torch.equal(engine.model(ids).logits, base)
                with held.active():
                    assert torch.equal(engine.model(ids).logits, changed)
                with rows.active():
                    assert torch.allclose(engine.model(ids).logits[0], changed[0], atol=1e-5)
                    assert torch.allclose(engine.model(ids).logits[1], base[1], atol=1e-5)
    with held.active(), pytest.raises(MixtureError, match="outlived its activation"):
        engine.model(ids)
