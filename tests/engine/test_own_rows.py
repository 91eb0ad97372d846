"""Rows of a batch that each use adapters of their own: what each is alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from intrinsic.engine import LoraEngine, own_rows
from intrinsic.engine.active import Active
from intrinsic.engine.bank import FactorBank
from intrinsic.engine.plan import plan_rows
from intrinsic.engine.prepared import Prepared
from intrinsic.errors import MixtureError
from intrinsic.lora import read_checkpoint
from intrinsic.mixture import BASE, Mixture
from tests.engine.test_engine import logits
from tests.tiny import llama, tokens, write_adapter

NAMES = ("a", "b", "c", "d")
IN_ORDER = [Mixture.of({name: 1.0}) for name in NAMES]
TURNED = IN_ORDER[::-1]
WEIGHED = [Mixture.of({name: 0.3 * at - 0.4}) for at, name in enumerate(NAMES)]
PAIRS = [Mixture.of({one: 0.7, other: -0.2}) for one, other in ("ab", "cd", "bc", "ad")]
WITH_BASE = [*IN_ORDER[:3], BASE]
ALL_ONE = [Mixture.of({"a": 1.0}), Mixture.of({"a": 0.5})] * 2


@pytest.fixture
def engine(tmp_path: Path) -> LoraEngine:
    model = llama()
    engine = LoraEngine(model)
    for seed, name in enumerate(NAMES):
        folder = write_adapter(tmp_path / name, model, seed=seed, targets=("q_proj", "down_proj"))
        engine.load(read_checkpoint(folder), name)
    return engine


def bank_of(names: str, rank: int = 4) -> FactorBank:
    bank = FactorBank(5, 3, dtype=torch.float32, device=torch.device("cpu"))
    for name in names:
        bank.add(name, Prepared(torch.randn(rank, 5), torch.randn(3, rank), 2.0))
    return bank


def is_apart(mixtures: Sequence[Mixture], bank: FactorBank) -> bool:
    plan = plan_rows(bank, Active.of(mixtures))
    assert plan is not None
    return plan.own is not None


@pytest.mark.parametrize(
    ("mixtures", "apart"),
    [
        (IN_ORDER, True),
        (TURNED, True),
        (WEIGHED, True),
        (PAIRS, True),
        (WITH_BASE, False),
        (ALL_ONE, False),
    ],
    ids=("in order", "turned", "weighed", "pairs", "with base", "all one"),
)
@pytest.mark.parametrize("width", [1, 6])
def test_rows_are_what_they_are_alone(
    engine: LoraEngine, mixtures: list[Mixture], apart: bool, width: int
) -> None:
    assert is_apart(mixtures, bank_of("abcd")) is apart
    model, ids = engine.model, tokens(rows=4, width=width)
    with engine.activate(mixtures):
        together = logits(model, ids)
    for row, mixture in enumerate(mixtures):
        with engine.activate(mixture):
            alone = logits(model, ids[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, atol=2e-5, rtol=1e-4)


def test_no_copies_are_made_where_the_rows_lie_in_order() -> None:
    bank = bank_of("abcd")
    plan = plan_rows(bank, Active.of(IN_ORDER))
    assert plan is not None
    assert plan.own is not None
    assert plan.own.B.data_ptr() == bank.B.data_ptr()
    assert plan.own.At.shape == (4, 5, 4)
    assert plan.own.weights == 2.0


def test_a_layer_with_other_ranks_is_left_to_the_stack() -> None:
    bank = bank_of("abc")
    bank.add("d", Prepared(torch.randn(2, 5), torch.randn(3, 2), 2.0))
    assert not is_apart(IN_ORDER, bank)


def test_many_numbers_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_rows, "_MOST_COPIED", 4 * 4 * (5 + 3) - 1)
    assert is_apart(IN_ORDER, bank_of("abcd"))
    assert not is_apart(TURNED, bank_of("abcd"))


def test_a_load_that_grows_the_stack_is_seen() -> None:
    bank = bank_of("abcd")
    assert is_apart(IN_ORDER, bank)
    bank.add("e", Prepared(torch.randn(64, 5), torch.randn(3, 64), 2.0))
    plan = plan_rows(bank, Active.of(IN_ORDER))
    assert plan is not None
    assert plan.own is not None
    assert plan.own.At.data_ptr() == bank.A.data_ptr()
    assert torch.equal(plan.own.B.flatten(0, 1), bank.B[:16])


def test_a_weight_too_large_for_the_dtype_is_refused_as_ever() -> None:
    huge = [Mixture.of({name: 3e38}) for name in NAMES]
    with pytest.raises(MixtureError, match="lower the weight"):
        plan_rows(bank_of("abcd"), Active.of(huge))
