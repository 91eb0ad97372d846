"""Merge methods in the live weights are those of a saved mixture."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
import torch

from intrinsic.engine import LoraEngine
from intrinsic.errors import PluginError
from intrinsic.lora import MergeOptions, dare, delta, exact, read_checkpoint
from intrinsic.lora.merge_options import bound
from intrinsic.mixture import Mixture
from tests.tiny import llama, write_adapter


def test_a_method_is_told_the_layer_that_it_merges(tmp_path: Path) -> None:
    model = llama()
    engine = LoraEngine(model)
    engine.load(read_checkpoint(write_adapter(tmp_path, model)), "a")
    told: list[str] = []

    def method(
        deltas: Sequence[torch.Tensor], weights: Sequence[float], *, module: str = ""
    ) -> torch.Tensor:
        told.append(module)
        return exact(deltas, weights)

    engine.merge(Mixture.of({"a": 1.0}), method)
    assert sorted(told) == sorted(engine.loaded[0].layers)
    engine.restore()


def test_dare_drops_in_the_weights_what_it_drops_in_a_saved_mixture(tmp_path: Path) -> None:
    model = llama()
    engine = LoraEngine(model)
    checkpoint = read_checkpoint(write_adapter(tmp_path, model))
    engine.load(checkpoint, "a")
    before = {name: model.get_submodule(name).weight.clone() for name in checkpoint.factors}
    engine.merge(Mixture.of({"a": 1.0}), partial(dare, density=0.5))
    for name, factors in checkpoint.factors.items():
        method = bound(dare, MergeOptions(density=0.5), module=name)
        expected = before[name] + method([delta(factors, dtype=torch.float32)], [1.0])
        torch.testing.assert_close(model.get_submodule(name).weight, expected)
    engine.close()


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda delta: delta[:1], r"float32 of shape \(1, 32\)"),
        (lambda delta: delta.sum(), r"float32 of shape \(\)"),
        (lambda delta: delta.int(), "int32"),
        (lambda delta: delta.numpy(), "ndarray"),
        (lambda delta: None, "NoneType"),
        (lambda delta: 1 / 0, "ZeroDivisionError"),
    ],
    ids=["a row", "a number", "integers", "numpy", "nothing", "an error"],
)
def test_a_method_that_makes_no_delta_is_refused_by_layer_and_changes_nothing(
    tmp_path: Path, made: Callable[[torch.Tensor], torch.Tensor], words: str
) -> None:
    model = llama()
    engine = LoraEngine(model)
    engine.load(read_checkpoint(write_adapter(tmp_path, model)), "a")
    before, calls = engine.fingerprint(), []

    def method(deltas: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
        calls.append(weights)
        return deltas[0] if len(calls) == 1 else made(deltas[0])

    with pytest.raises(PluginError, match=r"'method' .*model\.layers\.\d") as refused:
        engine.merge(Mixture.of({"a": 1.0}), method)
    assert re.search(words, str(refused.value))
    assert len(calls) == 2
    assert engine.merged is None
    assert engine.fingerprint() == before
