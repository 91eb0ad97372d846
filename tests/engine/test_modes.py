"""Whatever mode of torch a caller is in, what the engine keeps serves every other mode."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from intrinsic.engine import LoraEngine
from intrinsic.errors import IncompatibleAdapterError, MixtureError
from intrinsic.lora import LoraCheckpoint, exact, read_checkpoint
from intrinsic.mixture import BASE, Mixture
from tests.engine.test_special_kinds import KINDS, save_with_peft
from tests.tiny import llama, tokens, write_adapter, write_files

pytestmark = pytest.mark.filterwarnings(
    "ignore:.lora_bias=True. was passed", "ignore:.*LoRA tensor.* invalid shape"
)

KEY = "base_model.model"
ONE = Mixture.of({"a": 1.0})
MIXTURES: dict[str, Mixture | list[Mixture]] = {
    "shared": ONE,
    "per row": [ONE, Mixture.of({"a": -0.5})],
    "some": [BASE, ONE],
}
Mode = Callable[[], AbstractContextManager[object]]
MODES: dict[str, Mode] = {
    "inference": torch.inference_mode,
    "no grad": torch.no_grad,
    "grad": nullcontext,
}


@pytest.mark.parametrize("kind", ["DoRA", "lora_bias"])
@pytest.mark.parametrize(("first", "then"), list(product(MODES, MODES)))
def test_adapters_come_serve_and_go_in_any_modes(
    tmp_path: Path, kind: str, first: str, then: str
) -> None:
    model = llama()
    save_with_peft(model, tmp_path, **KINDS[kind])
    if kind == "lora_bias":
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                layer.bias = nn.Parameter(torch.zeros(layer.out_features))
    engine = LoraEngine(model)
    before, bytes_used = engine.fingerprint(), engine.bytes_used
    with MODES[first]():
        checkpoint = read_checkpoint(tmp_path)
        engine.load(checkpoint, "a")
        engine.merge(ONE)
        found = [model(tokens()).logits.detach()]
    with MODES[then]():
        engine.restore()
    for mixture in MIXTURES.values():
        with engine.activate(mixture):
            for mode in (first, then):
                with MODES[mode]():
                    found.append(model(tokens()).logits.detach())
        torch.testing.assert_close(found[-1], found[-2])
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)
    with MODES[then]():
        engine.load(checkpoint, "b")
        engine.merge(Mixture.of({"b": 2.0}))
    with MODES[first]():
        engine.restore()
        engine.unload("b")
    with MODES[then]():
        engine.unload("a")
    assert (engine.fingerprint(), engine.bytes_used) == (before, bytes_used)
    assert not engine.loaded


def test_gradients_pass_a_plan_that_was_made_in_inference_mode(tmp_path: Path) -> None:
    model = llama()
    engine = LoraEngine(model)
    with torch.inference_mode():
        engine.load(read_checkpoint(write_adapter(tmp_path, model)), "a")
    layer = model.model.layers[0].self_attn.q_proj
    for mixtures in MIXTURES.values():
        x = torch.randn(2, 3, 32, requires_grad=True)
        with engine.activate(mixtures):
            with torch.inference_mode():
                layer(x)
            layer(x).sum().backward()
        assert x.grad is not None


def test_a_model_that_was_made_in_inference_mode_is_merged_and_restored(tmp_path: Path) -> None:
    with torch.inference_mode():
        model = llama()
    engine = LoraEngine(model)
    before = engine.fingerprint()
    engine.load(read_checkpoint(write_adapter(tmp_path, model)), "a")
    engine.merge(ONE)
    assert engine.fingerprint() != before
    engine.close()
    assert engine.fingerprint() == before


def test_autocast_around_a_load_or_a_merge_does_not_round(tmp_path: Path) -> None:
    plain, cast = llama(), llama()
    save_with_peft(plain, tmp_path, **KINDS["DoRA"])
    found = []
    for model, mode in ((plain, nullcontext()), (cast, torch.autocast("cpu", torch.bfloat16))):
        engine = LoraEngine(model)
        with mode:
            engine.load(read_checkpoint(tmp_path), "a")
            engine.merge(ONE)
        found.append(engine.fingerprint())
    assert found[0] == found[1]


class Small(nn.Module):
    """An embedding and a linear layer, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(50, 24)
        self.layer = nn.Linear(24, 40)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(self.table(ids))
        return out


@pytest.fixture
def small(tmp_path: Path) -> LoraCheckpoint:
    generator = torch.Generator().manual_seed(1)
    return read_checkpoint(
        write_files(
            tmp_path,
            {
                f"{KEY}.table.lora_embedding_A": torch.randn(4, 50, generator=generator),
                f"{KEY}.table.lora_embedding_B": torch.randn(24, 4, generator=generator),
                f"{KEY}.layer.lora_A.weight": torch.randn(4, 24, generator=generator),
                f"{KEY}.layer.lora_B.weight": torch.randn(40, 4, generator=generator),
            },
        )
    )


def exactly(layer: Any, factors: Any, weight: float, x: torch.Tensor) -> torch.Tensor:
    """The layer's result in fp64 with `W + w s B A`."""
    wide = copy.deepcopy(layer).double()
    change = weight * factors.scale * (factors.B.double() @ factors.A.double())
    with torch.no_grad():
        wide.weight += change.T if factors.embedding else change
        out: torch.Tensor = wide(x if factors.embedding else x.double())
    return out


@pytest.mark.parametrize("tokens_per_row", [3, 20])
@pytest.mark.parametrize("mixture", ["shared", "per row", "some"])
@pytest.mark.parametrize("name", ["table", "layer"])
@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16], ids=str)
def test_under_autocast_a_layer_gives_its_own_dtype_and_the_sum(
    small: LoraCheckpoint, name: str, mixture: str, given: torch.dtype, tokens_per_row: int
) -> None:
    model = Small()
    layer = model.get_submodule(name)
    x = torch.randint(50, (2, tokens_per_row))
    if name == "layer":
        x = torch.randn(2, tokens_per_row, 24).to(given)
    weights = {"shared": (1.0, 1.0), "per row": (1.0, -0.5), "some": (0.0, 1.0)}[mixture]
    rows = zip(weights, x, strict=True)
    wanted = torch.stack([exactly(copy.deepcopy(layer), small.factors[name], *r) for r in rows])
    engine = LoraEngine(model)
    engine.load(small, "a")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        bare = layer(x)
        with engine.activate(MIXTURES[mixture]):
            found = layer(x)
    assert found.dtype == bare.dtype
    rounding = 2**-6 if found.dtype == torch.bfloat16 else 1e-5
    assert (found.double() - wanted).abs().max() <= rounding * wanted.abs().max()


@pytest.mark.parametrize("mixtures", MIXTURES.values(), ids=list(MIXTURES))
@pytest.mark.parametrize("change", ["half", "double", "bfloat16"])
def test_a_model_that_was_cast_asks_for_its_adapters_again(
    small: LoraCheckpoint, mixtures: Any, change: str
) -> None:
    model = Small()
    engine = LoraEngine(model)
    engine.load(small, "a")
    getattr(model, change)()
    ids = torch.randint(50, (2, 3))
    words = r"table is torch\.\w+ on cpu now, .* for torch\.float32 on cpu; unload all"
    with torch.no_grad(), engine.activate(mixtures), pytest.raises(MixtureError, match=words):
        model(ids)
    with pytest.raises(IncompatibleAdapterError, match=words):
        engine.load(small, "b")
    engine.unload("a")
    engine.load(small, "a")
    with torch.no_grad(), engine.activate(mixtures):
        model(ids)


@pytest.mark.parametrize("mixtures", MIXTURES.values(), ids=list(MIXTURES))
def test_rows_without_tokens_give_an_empty_result(small: LoraCheckpoint, mixtures: Any) -> None:
    model = Small()
    engine = LoraEngine(model)
    engine.load(small, "a")
    for layer, x in ((model.layer, torch.ones(2, 0, 24)), (model.table, torch.ones(2, 0).long())):
        bare = layer(x)
        with engine.activate(mixtures):
            found = layer(x)
        assert (found.shape, found.dtype) == (bare.shape, bare.dtype)


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """New tensors hold NaN where nothing was written yet."""
    torch.use_deterministic_algorithms(True)
    assert torch.isnan(torch.empty(3)).all()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def test_free_rows_of_a_bank_are_never_read(tmp_path: Path) -> None:
    model = llama()
    engine = LoraEngine(model)
    checkpoints = [
        read_checkpoint(write_adapter(tmp_path / name, model, seed=seed, r=rank, alpha=8))
        for seed, (name, rank) in enumerate({"a": 4, "b": 6, "c": 3, "d": 9}.items())
    ]
    with poisoned_memory():
        for name, checkpoint in zip("abcd", checkpoints, strict=True):
            engine.load(checkpoint, name)
        engine.unload("b")
        engine.load(checkpoints[2], "e")
        rows = [Mixture.of({"a": 1.0, "c": 0.5}), Mixture.of({"e": 1.0, "d": 0.5})]
        with torch.no_grad(), engine.activate(rows):
            found = model(tokens()).logits
        for row, mixture in enumerate(rows):
            with torch.no_grad(), engine.activate(mixture):
                alone = model(tokens()).logits[row]
            torch.testing.assert_close(found[row], alone, atol=1e-4, rtol=1e-4)
            assert alone.isfinite().all()
    engine.close()


def test_a_method_of_a_plugin_may_be_told_of_no_mode(tmp_path: Path) -> None:
    model = llama()
    engine = LoraEngine(model)
    engine.load(read_checkpoint(write_adapter(tmp_path, model)), "a")
    told: list[tuple[bool, bool]] = []

    def method(deltas: Any, weights: Any) -> torch.Tensor:
        told.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))
        return exact(deltas, weights)

    with torch.inference_mode():
        engine.merge(ONE, method)
    assert set(told) == {(False, False)}
