"""Merge methods in the live weights are those of a saved mixture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from intrinsic.engine import LoraEngine
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
