"""Work of several passes keeps what it needs between them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from intrinsic.engine import LoraEngine
from intrinsic.errors import AdapterInUseError, AdapterNotLoadedError, MixtureError
from intrinsic.lora import read_checkpoint
from intrinsic.mixture import BASE, Mixture
from tests.tiny import llama, tokens, write_adapter, write_files

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


def test_engines_do_not_see_each_others_mixtures(tmp_path: Path) -> None:
    model, other = llama(), llama(seed=1)
    engines = [LoraEngine(model), LoraEngine(model), LoraEngine(other)]
    for seed, engine in enumerate(engines):
        path = write_adapter(tmp_path / str(seed), engine.model, seed=seed)
        engine.load(read_checkpoint(path), "a")
    ids = tokens()
    with torch.no_grad():
        base, other_base = model(ids).logits, other(ids).logits
        alone = []
        for engine in engines[:2]:
            with engine.activate(A):
                alone.append(model(ids).logits)
        with engines[0].activate(A), engines[2].activate(A):
            assert torch.equal(model(ids).logits, alone[0])
            assert not torch.equal(other(ids).logits, other_base)
    assert not torch.equal(alone[0], alone[1])
    assert not torch.equal(alone[0], base)


def test_a_copy_of_a_model_with_side_cars_is_the_base(engine: LoraEngine) -> None:
    ids = tokens()
    with torch.no_grad():
        base = engine.model(ids).logits
        with engine.activate(A):
            assert torch.equal(copy.deepcopy(engine.model)(ids).logits, base)


def test_a_layer_that_returns_no_tensor_is_named(tmp_path: Path) -> None:
    model: Any = nn.Module()
    layer: Any = nn.Linear(8, 4)
    plain = layer.forward
    layer.forward = lambda x: (plain(x), x)
    model.router = layer
    engine = LoraEngine(model)
    factors = {
        "base_model.model.router.lora_A.weight": torch.ones(4, 8),
        "base_model.model.router.lora_B.weight": torch.ones(4, 4),
    }
    path = write_files(tmp_path, factors, target_modules=["router"])
    engine.load(read_checkpoint(path), "a")
    with (
        engine.activate(A),
        pytest.raises(MixtureError, match="router returns tuple, not a tensor"),
    ):
        model.router(torch.ones(1, 8))


def test_closing_during_a_pass_is_refused_whole(engine: LoraEngine, tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "b", engine.model, seed=1)
    engine.load(read_checkpoint(path), "b")
    with engine.hold(A):
        with pytest.raises(AdapterInUseError, match="cannot close while 1 forward passes run"):
            engine.close()
        assert [adapter.id for adapter in engine.loaded] == ["a", "b"]
    engine.close()
    assert not engine.loaded
    assert engine.bytes_used == 0
