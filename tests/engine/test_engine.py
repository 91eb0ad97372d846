"""The engine on live models: exact, per row, and gone without a trace."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intrinsic.engine import LoraEngine
from intrinsic.engine.fingerprint import fingerprint
from intrinsic.errors import (
    AdapterExistsError,
    AdapterInUseError,
    AdapterNotLoadedError,
    IncompatibleAdapterError,
    MixtureError,
    UnsupportedAdapterError,
)
from intrinsic.lora import LoraCheckpoint, exact, mixed_weight, read_checkpoint
from intrinsic.mixture import BASE, Mixture
from tests.tiny import factors_for, gpt2, llama, tokens, write_adapter, write_files

TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 0.15}


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model(ids).logits
        return out


def reference(model: Any, checkpoints: Mapping[str, LoraCheckpoint], mixture: Mixture) -> Any:
    """The slow way: a copy in fp64 whose weights are `W + Σ w s B A`."""
    exact = copy.deepcopy(model).double()
    modules = dict(exact.named_modules())
    for adapter, weight in mixture.entries:
        for name, factors in checkpoints[adapter].factors.items():
            layer = modules[name]
            transposed = type(layer).__name__ == "Conv1D"
            W = layer.weight.detach().T if transposed else layer.weight.detach()
            mixed = mixed_weight(W, [(factors, weight)])
            layer.weight.data = mixed.T.contiguous() if transposed else mixed
    return exact


@pytest.fixture
def checkpoints(tmp_path: Path) -> dict[str, LoraCheckpoint]:
    """Two adapters of different ranks, targets and scale rules."""
    model = llama()
    a = write_adapter(tmp_path / "a", model, targets=("q_proj", "v_proj", "down_proj"), seed=1)
    b = write_adapter(
        tmp_path / "b", model, targets=("q_proj", "up_proj"), r=6, seed=2, use_rslora=True
    )
    return {"a": read_checkpoint(a), "b": read_checkpoint(b)}


def engine_of(model: Any, checkpoints: Mapping[str, LoraCheckpoint]) -> LoraEngine:
    engine = LoraEngine(model)
    for name, checkpoint in checkpoints.items():
        engine.load(checkpoint, name)
    return engine


MIXTURES = [{"a": 1.0}, {"a": 0.7, "b": 0.3}, {"a": -0.5, "b": 2.0}, {"a": 0.0, "b": 1.0}, {}]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("weights", MIXTURES, ids=str)
def test_logits_equal_the_fp64_reference_side_car_and_merged(
    checkpoints: dict[str, LoraCheckpoint], weights: dict[str, float], dtype: torch.dtype
) -> None:
    model = llama(dtype=dtype)
    mixture = Mixture.of(weights)
    exact = logits(reference(model, checkpoints, mixture), tokens())
    engine = engine_of(model, checkpoints)
    with engine.activate(mixture):
        beside = logits(model, tokens())
    engine.merge(mixture)
    with engine.activate(mixture):
        merged = logits(model, tokens())
    for found in (beside, merged):
        assert (found.double() - exact).abs().max() <= TOLERANCE[dtype] * exact.abs().max()


def test_both_adapters_of_a_mixture_influence_the_output(
    checkpoints: dict[str, LoraCheckpoint],
) -> None:
    model = llama()
    engine = engine_of(model, checkpoints)
    found = []
    for weights in ({}, {"a": 0.7}, {"b": 0.3}, {"a": 0.7, "b": 0.3}):
        with engine.activate(Mixture.of(weights)):
            found.append(logits(model, tokens()))
    for i, first in enumerate(found):
        for second in found[i + 1 :]:
            assert (first - second).abs().max() > 1e-2


def test_conv1d_of_gpt2_is_exact_in_both_modes(tmp_path: Path) -> None:
    model = gpt2()
    folder = write_adapter(
        tmp_path, model, targets=("c_attn", "c_fc", "c_proj"), fan_in_fan_out=True
    )
    checkpoint = read_checkpoint(folder)
    mixture = Mixture.of({"a": 0.6})
    exact = logits(reference(model, {"a": checkpoint}, mixture), tokens())
    before = logits(model, tokens())
    engine = engine_of(model, {"a": checkpoint})
    with engine.activate(mixture):
        torch.testing.assert_close(logits(model, tokens()).double(), exact, atol=1e-4, rtol=1e-4)
    engine.merge(mixture)
    with engine.activate(mixture):
        torch.testing.assert_close(logits(model, tokens()).double(), exact, atol=1e-4, rtol=1e-4)
    engine.close()
    assert torch.equal(logits(model, tokens()), before)


@pytest.mark.parametrize("settings_", [{}, {"use_rslora": True}, {"alpha_pattern": {"q_proj": 3}}])
def test_one_adapter_equals_pefts_own_forward(tmp_path: Path, settings_: dict[str, object]) -> None:
    from peft import PeftModel

    folder = write_adapter(tmp_path, llama(), **settings_)  # type: ignore[arg-type]
    theirs = logits(PeftModel.from_pretrained(llama(), str(folder)).eval(), tokens())
    model = llama()
    engine = engine_of(model, {"a": read_checkpoint(folder)})
    with engine.activate(Mixture.of({"a": 1.0})):
        torch.testing.assert_close(logits(model, tokens()), theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_base_is_bit_identical_after_1000_swaps(
    checkpoints: dict[str, LoraCheckpoint], dtype: torch.dtype
) -> None:
    model = llama(dtype=dtype)
    before, digest = logits(model, tokens()), LoraEngine(model).fingerprint()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    engine = LoraEngine(model)
    for round_ in range(1000):
        name = "ab"[round_ % 2]
        engine.load(checkpoints[name], name)
        mixture = Mixture.of({name: 0.3 + round_ / 1000})
        if round_ % 10 == 0:
            engine.merge(mixture)
            engine.restore()
        else:
            with engine.activate(mixture):
                pass
        engine.unload(name)
    assert torch.equal(logits(model, tokens()), before)
    assert engine.fingerprint() == digest
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert engine.bytes_used == 0
    assert not any("forward" in vars(module) for module in model.modules())


def test_loading_and_activating_write_nothing_to_the_model(
    checkpoints: dict[str, LoraCheckpoint],
) -> None:
    model = llama()
    names = [name for name, _ in model.named_modules()]
    engine = LoraEngine(model)
    digest = engine.fingerprint()
    engine.load(checkpoints["a"], "a")
    with engine.activate(Mixture.of({"a": 1.0})):
        changed = logits(model, tokens())
        assert engine.fingerprint() == digest
    assert [name for name, _ in model.named_modules()] == names
    assert not torch.equal(changed, logits(model, tokens()))


def test_rows_of_a_batch_run_under_their_own_mixtures(
    checkpoints: dict[str, LoraCheckpoint],
) -> None:
    model = llama()
    engine = engine_of(model, checkpoints)
    mixtures = [
        Mixture.of({"a": 1.0}),
        BASE,
        Mixture.of({"a": 0.2, "b": -0.4}),
        Mixture.of({"b": 1.5}),
    ]
    ids = tokens(rows=4)
    with engine.activate(mixtures):
        together = logits(model, ids)
    for row, mixture in enumerate(mixtures):
        with engine.activate(mixture):
            alone = logits(model, ids[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-4, rtol=1e-4)


def test_a_row_is_not_touched_by_the_overflow_of_another_rows_adapter(tmp_path: Path) -> None:
    model = llama(dtype=torch.float16)
    huge = factors_for(model, ["v_proj"], size=1.2e4)
    engine = engine_of(
        model,
        {
            "huge": read_checkpoint(write_files(tmp_path / "h", huge)),
            "fine": read_checkpoint(write_adapter(tmp_path / "f", model, targets=("v_proj",))),
        },
    )
    fine = Mixture.of({"fine": 1.0})
    with engine.activate(fine):
        alone = logits(model, tokens(rows=2))
    with engine.activate([Mixture.of({"huge": 1.0}), fine]):
        together = logits(model, tokens(rows=2))
    assert not torch.isfinite(together[0]).all()
    torch.testing.assert_close(together[1], alone[1], atol=2e-2, rtol=2e-2)


def test_factors_too_large_for_the_models_dtype_are_refused(tmp_path: Path) -> None:
    model = llama(dtype=torch.float16)
    huge = write_files(tmp_path, factors_for(model, ["q_proj"], size=6e4))
    with pytest.raises(IncompatibleAdapterError, match=r"q_proj.*too large for torch\.float16"):
        LoraEngine(model).load(read_checkpoint(huge), "a")


def test_a_batch_of_another_size_than_its_mixtures_is_refused(
    checkpoints: dict[str, LoraCheckpoint],
) -> None:
    model = llama()
    engine = engine_of(model, checkpoints)
    with (
        engine.activate([BASE, Mixture.of({"a": 1.0})]),
        pytest.raises(MixtureError, match="3 inputs for 2 mixtures"),
    ):
        logits(model, tokens(rows=3))


def test_threads_see_their_own_mixture_only(checkpoints: dict[str, LoraCheckpoint]) -> None:
    """PEFT: 86 of 150 outputs matched neither adapter while a third thread switched."""
    model = llama()
    engine = engine_of(model, checkpoints)
    mixtures = [Mixture.of({"a": 1.0}), Mixture.of({"b": 1.0}), BASE]
    alone = []
    for mixture in mixtures:
        with engine.activate(mixture):
            alone.append(logits(model, tokens()))
    wrong: list[int] = []
    third = read_checkpoint(checkpoints["a"].path)

    def generate(index: int) -> None:
        for _ in range(50):
            with engine.activate(mixtures[index]):
                if not torch.equal(logits(model, tokens()), alone[index]):
                    wrong.append(index)

    def switch() -> None:
        for round_ in range(50):
            engine.load(third, f"other {round_}")
            engine.unload(f"other {round_}")

    threads = [threading.Thread(target=generate, args=(i,)) for i in range(3)]
    threads.append(threading.Thread(target=switch))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    "name", ["sql", "sql_v2", "half", "weight", "default", "a.b", "a b/c", "é"]
)
def test_names_may_be_prefixes_of_each_other_and_hold_anything(
    checkpoints: dict[str, LoraCheckpoint], name: str
) -> None:
    model = llama()
    engine = engine_of(model, {name: checkpoints["a"], f"{name}_v2": checkpoints["b"]})
    with engine.activate(Mixture.of({f"{name}_v2": 1.0})):
        before = logits(model, tokens())
    engine.unload(name)
    with engine.activate(Mixture.of({f"{name}_v2": 1.0})):
        assert torch.equal(logits(model, tokens()), before)


def test_the_same_adapters_with_other_weights_are_another_mixture(
    checkpoints: dict[str, LoraCheckpoint],
) -> None:
    model = llama()
    engine = engine_of(model, checkpoints)
    found = []
    for weight in (0.3, 0.6, 0.3):
        with engine.activate(Mixture.of({"a": weight})):
            found.append(logits(model, tokens()))
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])


def test_a_checkpoint_that_fits_nothing_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    """PEFT loads it 'successfully'."""
    other = write_adapter(tmp_path / "gpt2", gpt2(), targets=("c_attn",))
    model = llama()
    engine = LoraEngine(model)
    with pytest.raises(IncompatibleAdapterError, match=r"no layer transformer\.h\.0\.attn\.c_attn"):
        engine.load(read_checkpoint(other), "a")
    assert engine.loaded == ()
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_declared_target_without_tensors_is_named(tmp_path: Path) -> None:
    tensors = {k: t for k, t in factors_for(llama(), ["q_proj"]).items() if "layers.0" in k}
    folder = write_files(tmp_path, tensors, target_modules=["q_proj"])
    with pytest.raises(
        IncompatibleAdapterError, match=r"layers\.1\.self_attn\.q_proj is a declared"
    ):
        LoraEngine(llama()).load(read_checkpoint(folder), "a")


def test_another_shape_is_named_and_the_first_layers_stay_untouched(tmp_path: Path) -> None:
    tensors = factors_for(llama(), ["q_proj"])
    key = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"
    tensors[key] = torch.ones(4, 31)
    engine = LoraEngine(llama())
    with pytest.raises(IncompatibleAdapterError, match="maps 32 to 32, the adapter maps 31 to 32"):
        engine.load(read_checkpoint(write_files(tmp_path, tensors)), "a")
    assert engine.bytes_used == 0


def test_layers_that_are_not_linear_are_refused(tmp_path: Path) -> None:
    key = "base_model.model.model.embed_tokens"
    tensors = {
        f"{key}.lora_A.weight": torch.ones(4, 97),
        f"{key}.lora_B.weight": torch.ones(32, 4),
    }
    with pytest.raises(IncompatibleAdapterError, match="embed_tokens is Embedding"):
        LoraEngine(llama()).load(read_checkpoint(write_files(tmp_path, tensors)), "a")


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_quantised_weights_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    model = llama()
    layer = model.model.layers[0].self_attn.q_proj
    layer.weight = torch.nn.Parameter(torch.ones(32, 32).to(dtype), requires_grad=False)
    tensors = {k: t for k, t in factors_for(model, ["q_proj"]).items() if "layers.0" in k}
    with pytest.raises(IncompatibleAdapterError, match=rf"{dtype}.*quantised"):
        LoraEngine(model).load(read_checkpoint(write_files(tmp_path, tensors)), "a")


def test_the_fingerprint_sees_every_parameter_and_buffer() -> None:
    model = llama(tied=True)
    model.register_buffer("empty", torch.ones(2, 0))
    tensors = [*model.parameters(), *model.buffers()]
    names = set(model.state_dict())
    assert any(name not in names for name, _ in model.named_buffers())
    before = fingerprint(model)
    for tensor in tensors:
        kept = tensor.detach().clone()
        with torch.no_grad():
            tensor.view(-1)[-1:] += 1
        assert (fingerprint(model) != before) == (tensor.numel() > 0)
        with torch.no_grad():
            tensor.copy_(kept)
    assert fingerprint(model) == before


def test_merging_a_tied_head_is_refused_and_its_side_car_is_exact(tmp_path: Path) -> None:
    model = llama(tied=True)
    checkpoint = read_checkpoint(write_adapter(tmp_path, model, targets=("lm_head",)))
    before = LoraEngine(model).fingerprint()
    mixture = Mixture.of({"a": 1.0})
    untied = copy.deepcopy(model)
    untied.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    exact = logits(reference(untied, {"a": checkpoint}, mixture), tokens())
    engine = engine_of(model, {"a": checkpoint})
    with pytest.raises(UnsupportedAdapterError, match="share one weight"):
        engine.merge(mixture)
    with engine.activate(mixture):
        torch.testing.assert_close(logits(model, tokens()).double(), exact, atol=1e-4, rtol=1e-4)
    assert engine.fingerprint() == before


def test_a_taken_name_and_an_unknown_one_are_refused(
    checkpoints: dict[str, LoraCheckpoint],
) -> None:
    engine = engine_of(llama(), checkpoints)
    with pytest.raises(AdapterExistsError, match="'a' is loaded already"):
        engine.load(checkpoints["b"], "a")
    with pytest.raises(AdapterNotLoadedError, match="'c' is not loaded"):
        engine.unload("c")
    with pytest.raises(AdapterNotLoadedError), engine.activate(Mixture.of({"c": 1.0})):
        pass


def test_what_runs_or_is_merged_cannot_be_unloaded(
    checkpoints: dict[str, LoraCheckpoint],
) -> None:
    engine = engine_of(llama(), checkpoints)
    with engine.activate(Mixture.of({"a": 1.0})):
        with pytest.raises(AdapterInUseError):
            engine.unload("a")
        engine.unload("b")
        with pytest.raises(AdapterInUseError, match="cannot merge while 1"):
            engine.merge(Mixture.of({"a": 1.0}))
    engine.merge(Mixture.of({"a": 1.0}))
    with pytest.raises(AdapterInUseError):
        engine.unload("a")
    with pytest.raises(MixtureError, match="another mixture is merged"), engine.activate(BASE):
        pass
    engine.restore()
    engine.unload("a")


def test_a_merge_that_fails_half_way_leaves_the_base(
    checkpoints: dict[str, LoraCheckpoint],
) -> None:
    model = llama()
    engine = engine_of(model, checkpoints)
    digest = engine.fingerprint()
    calls = 0

    def fails_at_the_third(
        deltas: Sequence[torch.Tensor], weights: Sequence[float]
    ) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise MemoryError
        return exact(deltas, weights)

    with pytest.raises(MemoryError):
        engine.merge(Mixture.of({"a": 1.0}), fails_at_the_third)
    assert calls == 3
    assert engine.fingerprint() == digest
    assert engine.merged is None
    with engine.activate(BASE):
        pass


def test_a_merge_that_overflows_the_dtype_is_refused(tmp_path: Path) -> None:
    model = llama(dtype=torch.float16)
    large = write_files(tmp_path, factors_for(model, ["q_proj"], size=500.0))
    engine = engine_of(model, {"a": read_checkpoint(large)})
    digest = engine.fingerprint()
    with pytest.raises(UnsupportedAdapterError, match=r"makes .*q_proj infinite"):
        engine.merge(Mixture.of({"a": 1.0}))
    assert engine.fingerprint() == digest


def test_merging_another_mixture_starts_from_pristine_weights(
    checkpoints: dict[str, LoraCheckpoint],
) -> None:
    model = llama()
    engine = engine_of(model, checkpoints)
    digest = engine.fingerprint()
    for round_ in range(20):
        engine.merge(Mixture.of({"a": 0.1 * round_, "b": 1.0}))
    direct = engine_of(llama(), checkpoints)
    direct.merge(Mixture.of({"a": 0.1 * 19, "b": 1.0}))
    assert engine.fingerprint() == direct.fingerprint()
    engine.restore()
    assert engine.fingerprint() == digest


def test_scaling_at_load_multiplies_every_scale(checkpoints: dict[str, LoraCheckpoint]) -> None:
    model = llama()
    engine = LoraEngine(model)
    engine.load(checkpoints["a"], "half", scaling=0.5)
    engine.load(checkpoints["a"], "whole")
    with engine.activate(Mixture.of({"half": 1.0})):
        half = logits(model, tokens())
    with engine.activate(Mixture.of({"whole": 0.5})):
        torch.testing.assert_close(logits(model, tokens()), half)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.dictionaries(st.sampled_from("ab"), st.floats(-2, 2, width=32), max_size=2),
    st.dictionaries(st.sampled_from("ab"), st.floats(-2, 2, width=32), max_size=2),
)
def test_any_two_mixtures_in_turn_are_exact_and_leave_the_base(
    checkpoints: dict[str, LoraCheckpoint], first: dict[str, float], second: dict[str, float]
) -> None:
    model = llama()
    base = logits(model, tokens())
    engine = engine_of(model, checkpoints)
    for weights in (first, second):
        mixture = Mixture.of(weights)
        exact = logits(reference(model, checkpoints, mixture), tokens())
        with engine.activate(mixture):
            torch.testing.assert_close(
                logits(model, tokens()).double(), exact, atol=1e-3, rtol=1e-3
            )
    assert torch.equal(logits(model, tokens()), base)
