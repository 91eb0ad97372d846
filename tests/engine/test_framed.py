"""Adapters that share their factors and have a core of their own: exact, and read once."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from intrinsic.backends.adapter_size import bytes_once_loaded
from intrinsic.engine import LoraEngine, framed
from intrinsic.engine import plan as engine_plan
from intrinsic.engine.active import Active
from intrinsic.engine.bank import FactorBank
from intrinsic.engine.plan import plan_rows, plan_shared
from intrinsic.engine.prepared import Prepared
from intrinsic.engine.target import Target
from intrinsic.errors import IncompatibleAdapterError, MixtureError
from intrinsic.lora import CoreFactors, Digest, LoraCheckpoint, LoraConfig, read_checkpoint
from intrinsic.mixture import BASE, Mixture
from tests.engine.test_engine import logits
from tests.tiny import gpt2, llama, tokens, write_adapter

MODELS = {
    "llama": (llama, ("q_proj", "down_proj")),
    "gpt2": (gpt2, ("c_attn", "c_proj")),  # whose layers store (in, out)
}
SHARED = (
    {"x": 1.0},
    {"x": 0.7, "y": -0.4},
    {"x": 0.5, "z": 1.5},  # z has another frame
    {"x": -0.3, "y": 0.2, "a": 0.8, "z": 0.1},  # a has factors of its own
)
ROWS = (
    [{"x": 1.0}, {"y": 1.0}, {"w": 1.0}],
    [{"x": 0.5}, {}, {"y": -1.5}],
    [{"x": 0.5, "y": 0.5}, {"z": 1.0}, {"a": 1.0}],
    [{"a": 1.0}, {"a": -0.5, "x": 0.3}, {"b": 1.0}],
)


class Case:
    """A model with adapters `x`, `y`, `w` on one frame, `z` on another, `a` and `b` on none."""

    def __init__(self, kind: str, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        make, ends = MODELS[kind]
        self.model = make().to(dtype)
        modules = dict(self.model.named_modules())
        self.targets = {n: Target(n, m) for n, m in modules.items() if n.endswith(ends)}
        self.engine = LoraEngine(self.model)
        frames = [self.frame(seed) for seed in (1, 2)]
        self.factors = {
            name: self.cores(frames[name == "z"], seed) for seed, name in enumerate("xywz")
        }
        for name in "xywz":
            self.engine.load(checkpoint(self.factors[name]), name)
        for seed, name in enumerate("ab"):
            written = write_adapter(folder / name, make(), seed=seed, targets=ends)
            loaded = read_checkpoint(written)
            self.factors[name] = dict(loaded.factors)
            self.engine.load(loaded, name)

    def frame(self, seed: int, rank: int = 3) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        torch.manual_seed(seed)
        return {
            name: (torch.randn(rank, t.in_features), torch.randn(t.out_features, rank))
            for name, t in self.targets.items()
        }

    @staticmethod
    def cores(frame: dict[str, tuple[torch.Tensor, torch.Tensor]], seed: int) -> dict[str, Any]:
        torch.manual_seed(100 + seed)
        return {
            name: CoreFactors(A, B, 0.05 * torch.randn(len(A), len(A)), 2.0)
            for name, (A, B) in frame.items()
        }

    def merged(self, kind: str, weights: dict[str, float], ids: torch.Tensor) -> torch.Tensor:
        """The logits of the model whose weights have the sum in them, in fp64."""
        model = MODELS[kind][0]().double()
        for name, target in self.targets.items():
            layer = model.get_submodule(name)
            for adapter, weight in weights.items():
                f = self.factors[adapter][name]
                delta = weight * f.scale * (f.B.double() @ f.A.double())
                layer.weight.data += delta.T if target.transposed else delta
        return logits(model, ids)


def checkpoint(factors: dict[str, Any]) -> LoraCheckpoint:
    config = LoraConfig(r=3, alpha=6.0, target_modules=tuple(factors), base_model="")
    return LoraCheckpoint(Path("made"), config, factors, Digest([b"made"]), 1)


@pytest.fixture(params=MODELS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def case(kind: str, tmp_path: Path) -> Iterator[Case]:
    made = Case(kind, tmp_path)
    yield made
    made.engine.close()
    assert made.engine.bytes_used == 0


@pytest.mark.parametrize("weights", SHARED)
@pytest.mark.parametrize("width", [1, 20])
@pytest.mark.parametrize("most", [0, 2**16])
def test_a_mixture_is_the_sum(
    kind: str,
    case: Case,
    weights: dict[str, float],
    width: int,
    most: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_plan, "MOST_MULTIPLIED", most)
    ids = tokens(rows=2, width=width)
    with case.engine.activate(Mixture.of(weights)):
        found = logits(case.model, ids)
    expected = case.merged(kind, weights, ids)
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found, logits(case.model, ids), atol=1e-3)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("width", [1, 20])
@pytest.mark.parametrize("most", [0, 2**16])
def test_rows_are_what_they_are_alone(
    kind: str,
    case: Case,
    rows: list[dict[str, float]],
    width: int,
    most: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (engine_plan, framed):
        monkeypatch.setattr(module, "MOST_MULTIPLIED", most)
    ids = tokens(rows=3, width=width)
    with case.engine.activate([Mixture.of(weights) for weights in rows]):
        first, together = (logits(case.model, ids) for _ in range(2))
    torch.testing.assert_close(first, together, atol=1e-5, rtol=1e-5)
    for row, weights in enumerate(rows):
        expected = case.merged(kind, weights, ids[row : row + 1])
        one = together[row : row + 1].double()
        torch.testing.assert_close(one, expected, atol=1e-4, rtol=1e-4)


def test_merged_weights_are_the_sum_too_and_leave_again(kind: str, case: Case) -> None:
    ids, before = tokens(), case.engine.fingerprint()
    weights = {"x": 0.6, "z": -0.3, "a": 0.4}
    case.engine.merge(Mixture.of(weights))
    found = logits(case.model, ids)
    torch.testing.assert_close(
        found.double(), case.merged(kind, weights, ids), atol=1e-4, rtol=1e-4
    )
    case.engine.restore()
    assert case.engine.fingerprint() == before


def test_only_the_core_is_copied_and_the_frame_leaves_with_the_last(case: Case) -> None:
    frame, before = case.frame(7), case.engine.bytes_used
    sizes = [before]
    for seed, name in enumerate("pqrs"):
        case.engine.load(checkpoint(case.cores(frame, seed)), name)
        sizes.append(case.engine.bytes_used)
    core = len(case.targets) * 3 * 3 * 4
    assert sizes[1] - sizes[0] > 4 * core
    assert sizes[2:] == [sizes[1]] * 3  # there is room for four at first
    case.engine.load(checkpoint(case.cores(frame, 9)), "u")
    assert case.engine.bytes_used == sizes[1] + 2 * core
    for sidecar in case.engine._sidecars.values():  # nothing keeps the cores of before
        views = [view for name in "pqrsu" if (view := sidecar.bank.get(name)) is not None]
        cores = [view.core for view in views if view.core is not None]
        assert len({one.untyped_storage().data_ptr() for one in cores}) == 1
    case.engine.unload("u")
    assert case.engine.bytes_used == sizes[1] + 2 * core
    for name in "rpsq":
        case.engine.unload(name)
    frames = [s.bank._frames for s in case.engine._sidecars.values()]
    assert {len(found) for found in frames} == {2}
    case.engine.load(checkpoint(case.cores(case.frame(8), 0)), "t")  # into the rows that are free
    assert case.engine.bytes_used == sizes[1]
    case.engine.unload("t")


def test_equal_numbers_in_another_place_are_another_frame(case: Case) -> None:
    for name in "pq":
        case.engine.load(checkpoint(case.cores(case.frame(7), 0)), name)
    banks = [s.bank for s in case.engine._sidecars.values()]
    for bank in banks:
        p, q = bank.get("p"), bank.get("q")
        assert p is not None
        assert q is not None
        assert p.place.start != q.place.start
    for name in "pq":
        case.engine.unload(name)


def test_a_copy_is_as_good() -> None:
    one = CoreFactors(torch.ones(2, 5), torch.ones(3, 2), 2 * torch.eye(2), 0.5)
    other = copy.deepcopy(one)
    assert torch.equal(other.B, one.B)
    assert other.shared != one.shared
    assert copy.copy(one).shared == one.shared
    assert (other.rank, other.scale, other.out_features, other.is_plain) == (2, 0.5, 3, True)
    assert repr(other) == "CoreFactors(r=2, scale=0.5)"


def test_a_size_is_never_below_what_a_load_takes(case: Case) -> None:
    made = checkpoint(case.cores(case.frame(9), 0))
    expected = bytes_once_loaded(made, case.model)
    assert case.engine.load(made, "p").bytes_used == expected
    case.engine.unload("p")


def bank_of(*cores: torch.Tensor, dtype: torch.dtype = torch.float32) -> FactorBank:
    bank = FactorBank(5, 3, dtype=dtype, device=torch.device("cpu"))
    A, B = torch.ones(2, 5), torch.ones(3, 2)
    for name, core in zip("abcd", cores, strict=False):
        bank.add(name, Prepared(A, B, 2.0, core=core.to(dtype), shared="one"))
    return bank


def test_of_one_frame_a_mixture_is_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = bank_of(torch.eye(2), 3 * torch.eye(2))
    mixture = Mixture.of({"a": 0.5, "b": 0.25})
    core = (2 * 0.5 + 2 * 0.25 * 3) * torch.eye(2)
    runs: list[engine_plan.SharedRun] = []
    for most in (6, 5):  # B has 6 numbers
        monkeypatch.setattr(engine_plan, "MOST_MULTIPLIED", most)
        plan = plan_shared(bank, Active.of(mixture), mixture)
        assert plan is not None
        runs += plan.runs
    multiplied, apart = runs
    assert multiplied.weights == apart.weights == 1.0
    assert multiplied.core is None
    assert torch.equal(multiplied.B, core @ bank.B)
    assert apart.core is not None
    assert torch.equal(apart.core, core)
    assert bank.rows == 2


def test_rows_with_a_core_each_and_nothing_else_are_two_products(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bank = bank_of(torch.eye(2), 3 * torch.eye(2))
    a, b, both = Mixture.of({"a": 1.0}), Mixture.of({"b": 1.0}), Mixture.of({"a": 0.5, "b": 0.5})

    def alone(*rows: Mixture) -> bool:
        plan = plan_rows(bank, Active.of(rows))
        assert plan is not None
        assert len(plan.framed) == (0 if plan.is_own_alone else 1)
        return plan.is_own_alone

    assert alone(a, b)
    assert alone(a, both)
    assert not alone(a, BASE)
    with monkeypatch.context() as small:
        small.setattr(framed, "MOST_MULTIPLIED", 5)  # the Bs of two rows have 12 numbers
        assert not alone(a, b)
    bank.add("plain", Prepared(torch.ones(2, 5), torch.ones(3, 2), 1.0))
    assert not alone(a, b, Mixture.of({"b": 1.0, "plain": 1.0}))
    assert alone(a, b)


def test_a_row_that_uses_none_does_not_see_what_overflows() -> None:
    model = llama(dtype=torch.float16)
    name = "model.layers.0.mlp.down_proj"
    target = Target(name, model.get_submodule(name))
    A = torch.full((2, target.in_features), 6e4)
    B, core = torch.ones(target.out_features, 2), torch.eye(2)
    engine = LoraEngine(model)
    for at, adapter in enumerate("ab"):
        engine.load(checkpoint({name: CoreFactors(A, B, core * (at + 1), 1.0)}), adapter)
    ids = tokens(rows=3)
    with engine.activate([Mixture.of({"a": 1.0}), BASE, Mixture.of({"b": 1.0})]):
        together = logits(model, ids)
    assert torch.equal(together[1], logits(model, ids)[1])
    engine.close()


def test_a_weight_too_large_is_refused() -> None:
    bank = bank_of(torch.eye(2), torch.eye(2))
    for weights in ({"a": 3e38}, {"a": 3e38, "b": 1.0}):
        mixture = Mixture.of(weights)
        with pytest.raises(MixtureError, match="lower the weight"):
            plan_shared(bank, Active.of(mixture), mixture)
        with pytest.raises(MixtureError, match="lower the weight"):
            plan_rows(bank, Active.of([mixture, BASE]))


@pytest.mark.parametrize(
    ("core", "frame", "words"),
    [(1e6, 1.0, "too large"), (1.0, 1e6, "too large for"), (1.0, None, "the adapter maps")],
)
def test_what_does_not_fit_is_refused_and_nothing_changes(
    core: float, frame: float | None, words: str
) -> None:
    model = llama(dtype=torch.float16)
    name = "model.layers.0.self_attn.q_proj"
    target = Target(name, model.get_submodule(name))
    out = target.out_features + (frame is None)
    factors = CoreFactors(
        torch.ones(2, target.in_features),
        torch.full((out, 2), frame or 1.0),
        torch.full((2, 2), core),
        1.0,
    )
    engine = LoraEngine(model)
    with pytest.raises(IncompatibleAdapterError, match=words):
        engine.load(checkpoint({name: factors}), "a")
    assert engine.loaded == ()
    assert engine.bytes_used == 0
