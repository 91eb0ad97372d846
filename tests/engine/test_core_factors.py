"""Cores between shared factors, in dtypes and numbers that leave little room."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from intrinsic.engine import LoraEngine
from intrinsic.errors import IncompatibleAdapterError
from intrinsic.lora import CoreFactors, Factors, delta
from intrinsic.mixture import Mixture
from tests.engine.test_framed import checkpoint

WIDTH, RANK = 64, 4


def model(dtype: torch.dtype) -> Any:
    """One layer of zeros, so that what comes out is the adapters' alone."""
    layer = nn.Linear(WIDTH, WIDTH, bias=False)
    nn.init.zeros_(layer.weight)
    return nn.Sequential(layer).to(dtype)


def parts(
    *, A: float = 1.0, frame: float = 1.0, core: float = 1.0, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    shapes = ((RANK, WIDTH, A), (WIDTH, RANK, frame), (RANK, RANK, core))
    made = [(torch.randn(rows, columns) * size).to(dtype) for rows, columns, size in shapes]
    return made[0], made[1], made[2]


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_merged_and_beside_are_the_same_sum(dtype: torch.dtype, stored: torch.dtype) -> None:
    A, frame, core = parts(dtype=stored)
    exact = frame.double() @ core.double() @ A.double()
    factors = CoreFactors(A, frame, core, 1.0)
    torch.testing.assert_close(delta(factors), exact, rtol=0.0, atol=0.0)
    base = model(dtype)
    engine, mixture = LoraEngine(base), Mixture.of({"x": 1.0})
    engine.load(checkpoint({"0": factors}), "x")
    one = torch.eye(WIDTH, dtype=dtype)
    with torch.no_grad(), engine.activate(mixture):
        beside = base(one).T
    engine.merge(mixture)
    slack = 20 * torch.finfo(dtype).eps * float(exact.abs().max())
    for found in (beside, base[0].weight.detach()):
        torch.testing.assert_close(found.double(), exact, rtol=0.0, atol=slack)
    engine.close()


def test_what_is_multiplied_does_not_depend_on_autocast() -> None:
    factors = CoreFactors(*parts(), 1.0)
    alone = factors.B
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(factors.B, alone)


def test_what_fits_no_half_precision_is_refused_as_plain_factors_are() -> None:
    A, frame, core = parts(A=1e-3, frame=200.0, core=200.0)
    engine = LoraEngine(model(torch.float16))
    for factors in (CoreFactors(A, frame, core, 1.0), Factors(A, frame @ core, 1.0)):
        with pytest.raises(IncompatibleAdapterError, match=r"too large for torch\.float16"):
            engine.load(checkpoint({"0": factors}), "x")
    assert not engine.loaded


@pytest.mark.parametrize("rows", [False, True])
def test_large_weights_do_not_take_cores_out_of_half_precision(rows: bool) -> None:
    A, frame, core = parts(A=1e-3, core=40.0)
    base = model(torch.float16)
    engine = LoraEngine(base)
    for name in "xy":
        engine.load(checkpoint({"0": CoreFactors(A, frame, core, 1.0)}), name)
    x = torch.randn(2, 1, WIDTH).half()
    exact = x.double() @ (frame.double() @ core.double() @ A.double()).T
    whole, some = Mixture.of({"x": 1500.0, "y": 1500.0}), Mixture.of({"x": 100.0})
    with torch.no_grad(), engine.activate([whole, some] if rows else whole):
        found = base(x).double()
    expected = exact * torch.tensor([3000.0, 100.0 if rows else 3000.0])[:, None, None]
    assert expected.abs().max() < torch.finfo(torch.float16).max
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2.0)


def test_no_token_is_no_answer() -> None:
    base = model(torch.float32)
    engine = LoraEngine(base)
    A, frame, core = parts()
    for name, sign in (("x", 1.0), ("y", -1.0)):
        engine.load(checkpoint({"0": CoreFactors(A, frame, sign * core, 1.0)}), name)
    with engine.activate([Mixture.of({"x": 1.0}), Mixture.of({"y": 1.0}), Mixture()]):
        for _ in range(2):
            assert base(torch.ones(3, 0, WIDTH)).shape == (3, 0, WIDTH)
