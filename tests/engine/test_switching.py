"""From one merged mixture to the next, from pristine weights, wherever their copies lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from intrinsic.engine import LoraEngine, exact_sum
from intrinsic.engine.exact_sum import may_overflow, write_sum
from intrinsic.errors import ConfigError
from intrinsic.lora import Factors, read_checkpoint
from intrinsic.mixture import Mixture
from tests.engine.zoo import KINDS, Kind, in_fp64, make
from tests.tiny import llama, tokens, write_adapter

A, B = Mixture.of({"a": 0.7}), Mixture.of({"b": -0.4})
BOTH = Mixture.of({"a": 1.5, "b": 0.2})


@pytest.mark.parametrize("place", ["device", "host"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [KINDS[0], KINDS[6]], ids=lambda kind: kind.name)
def test_each_switch_gives_what_a_merge_into_the_base_gives(
    tmp_path: Path, kind: Kind, dtype: torch.dtype, place: Any
) -> None:
    made = make(kind, tmp_path)
    engine = LoraEngine(kind.build(dtype), pristine=place)
    for name, checkpoint in made.checkpoints.items():
        engine.load(checkpoint, name)
    before = engine.fingerprint()
    for mixture in (A, BOTH, B, A):
        engine.merge(mixture)
        exact = in_fp64(kind.build(dtype), made.checkpoints, mixture)
        for name, weight in exact.named_parameters():
            found = engine.model.get_parameter(name)
            assert torch.equal(found, weight.to(dtype)) or torch.allclose(
                found.double(), weight, rtol=torch.finfo(dtype).eps, atol=1e-6
            )
        assert engine.fingerprint() != before
    engine.restore()
    assert engine.fingerprint() == before


def test_copies_are_kept_of_what_is_written_and_of_nothing_else(tmp_path: Path) -> None:
    model = llama()
    engine = LoraEngine(model)
    engine.load(read_checkpoint(write_adapter(tmp_path / "a", model, targets=["q_proj"])), "a")
    engine.load(read_checkpoint(write_adapter(tmp_path / "b", model, targets=["down_proj"])), "b")
    factors = engine.bytes_used
    sizes = {
        suffix: sum(p.nbytes for n, p in model.named_parameters() if f"{suffix}.weight" in n)
        for suffix in ("q_proj", "down_proj")
    }
    engine.merge(A)
    assert engine.bytes_used == factors + sizes["q_proj"]
    engine.merge(BOTH)
    assert engine.bytes_used == factors + sizes["q_proj"] + sizes["down_proj"]
    engine.merge(B)
    assert engine.bytes_used == factors + sizes["down_proj"]
    engine.restore()
    assert engine.bytes_used == factors


def test_another_place_is_refused() -> None:
    with pytest.raises(ConfigError, match="pristine is 'disk'; it must be 'device' or 'host'"):
        LoraEngine(llama(), pristine="disk")  # type: ignore[arg-type]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_sums_are_the_same_in_blocks_of_any_size(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, *, transposed: bool
) -> None:
    torch.manual_seed(0)
    W = torch.randn(13, 7).to(dtype)  # (out, in)
    terms = [
        (Factors(torch.randn(r, 7), torch.randn(13, r), scale), w)
        for r, scale, w in ((2, 0.5, 1.0), (5, 2.0, -0.3))
    ]
    exact = W.double() + sum(w * f.scale * f.B.double() @ f.A.double() for f, w in terms)
    stored = W.T.contiguous() if transposed else W
    expected = exact.T if transposed else exact
    for block in (1, 8, 30, 1000):
        monkeypatch.setattr(exact_sum, "_CPU_BLOCK", block)
        into, same = torch.empty_like(stored), stored.clone()
        write_sum(into, stored, terms, transposed=transposed)
        write_sum(same, same, terms, transposed=transposed)
        assert torch.equal(into, same)
        torch.testing.assert_close(
            into.double(), expected, rtol=2 * torch.finfo(dtype).eps, atol=1e-5
        )


def test_what_may_overflow_is_never_overlooked() -> None:
    torch.manual_seed(0)
    for _ in range(200):
        size = 10 ** (torch.rand(1).item() * 3)
        factors = Factors(torch.randn(3, 5) * size, torch.randn(4, 3) * size, 1.0)
        W = torch.randn(4, 5).half()
        total = W.float() + 0.5 * factors.B @ factors.A
        overflows = not torch.isfinite(total.half()).all()
        flagged = may_overflow(float(W.abs().max()), [(factors, 0.5)], torch.float16)
        assert flagged or not overflows


def test_a_failed_switch_leaves_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from intrinsic.engine import merged

    model = llama()
    engine = LoraEngine(model)
    for seed, name in enumerate("ab"):
        path = write_adapter(tmp_path / name, model, seed=seed)
        engine.load(read_checkpoint(path), name)
    before = engine.fingerprint()
    engine.merge(A)
    calls: list[int] = []

    def fail_later(*args: Any, **kwargs: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        write_sum(*args, **kwargs)

    monkeypatch.setattr(merged, "write_sum", fail_later)
    with pytest.raises(KeyboardInterrupt):
        engine.merge(BOTH)
    assert engine.merged is None
    assert engine.fingerprint() == before
    with engine.activate(B), torch.no_grad():
        model(tokens())
