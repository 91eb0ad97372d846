"""What a merge costs and saves is measured, and the measuring leaves no trace."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from intrinsic.engine import LoraEngine, break_even
from intrinsic.engine.break_even import BreakEven
from intrinsic.errors import AdapterNotLoadedError
from intrinsic.mixture import BASE, Mixture
from tests.engine.zoo import KINDS, Kind, make
from tests.tiny import llama

BOTH = Mixture.of({"a": 0.7, "b": -0.3})


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[6]], ids=lambda kind: kind.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_times_are_positive_and_nothing_changes(
    tmp_path: Path, kind: Kind, dtype: torch.dtype
) -> None:
    made = make(kind, tmp_path)
    engine = LoraEngine(kind.build(dtype))
    for name, checkpoint in made.checkpoints.items():
        engine.load(checkpoint, name)
    before, used = engine.fingerprint(), engine.bytes_used
    found = engine.break_even(BOTH)
    assert found.merge_ms > 0
    assert found.saved_ms > 0
    assert found.tokens == pytest.approx(found.merge_ms / found.saved_ms)
    assert (engine.fingerprint(), engine.bytes_used) == (before, used)
    assert engine.merged is None
    for name in "ab":
        engine.unload(name)


def test_what_saves_nothing_never_pays() -> None:
    assert BreakEven(5.0, 0.0).tokens == float("inf")
    assert BreakEven(5.0, -0.1).tokens == float("inf")
    assert LoraEngine(llama()).break_even(BASE).tokens == float("inf")
    with pytest.raises(AdapterNotLoadedError):
        LoraEngine(llama()).break_even(BOTH)


def test_a_deep_model_is_measured_by_a_sample_of_its_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(KINDS[0], tmp_path)
    engine = LoraEngine(KINDS[0].build())
    for name, checkpoint in made.checkpoints.items():
        engine.load(checkpoint, name)
    calls: list[str] = []
    forward = nn.Linear.forward

    def counted(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        calls.append("")
        return forward(layer, x)

    monkeypatch.setattr(nn.Linear, "forward", counted)
    monkeypatch.setattr(break_even, "_SAMPLE", 3)
    engine.break_even(BOTH)
    assert len(calls) <= 2 * 5 * 5
