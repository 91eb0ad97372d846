"""Checkpoints merged into one: exact where that is promised, and honest about what is lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from intrinsic.errors import (
    ConfigError,
    IncompatibleAdapterError,
    MixtureError,
    PluginError,
    UnsupportedAdapterError,
)
from intrinsic.lora import (
    Digest,
    Factors,
    LoraCheckpoint,
    LoraConfig,
    MergedAdapter,
    MergeOptions,
    dare,
    delta,
    exact,
    merge_checkpoints,
    merge_method,
    modules_of,
    read_checkpoint,
)
from tests.tiny import factors_for, gpt2, llama, write_adapter, write_files

Terms = list[tuple[LoraCheckpoint, float]]


@pytest.fixture
def a(tmp_path: Path) -> LoraCheckpoint:
    targets = ("q_proj", "v_proj", "down_proj")
    return read_checkpoint(write_adapter(tmp_path / "a", llama(), targets=targets, seed=1))


@pytest.fixture
def b(tmp_path: Path) -> LoraCheckpoint:
    """Another rank, another scale rule, other layers."""
    return read_checkpoint(
        write_adapter(
            tmp_path / "b",
            llama(),
            targets=("q_proj", "up_proj"),
            ranks={"q_proj": 6, "up_proj": 3},
            r=6,
            seed=2,
            use_rslora=True,
            rank_pattern={"up_proj": 3},
            alpha_pattern={"up_proj": 5},
        )
    )


def sum_at(module: str, terms: Terms) -> torch.Tensor:
    """The meaning of the mixture at a layer, term by term."""
    found = [delta(c.factors[module], weight) for c, weight in terms if module in c.factors]
    return sum(found[1:], start=found[0])


def close(merged: MergedAdapter, terms: Terms) -> None:
    assert list(merged.factors) == modules_of(terms)
    for module, factors in merged.factors.items():
        torch.testing.assert_close(delta(factors), sum_at(module, terms), atol=1e-6, rtol=1e-6)


WEIGHTS = [(0.7, 0.3), (-0.5, 2.0), (1.0, 1.0), (0.0, 0.4)]


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_exact_stacks_the_factors_and_is_exact(
    a: LoraCheckpoint, b: LoraCheckpoint, weights: tuple[float, float]
) -> None:
    """Traps 1 to 4: no cross terms; every scale rule; any weight; other ranks and layers."""
    terms = [(a, weights[0]), (b, weights[1])]
    merged = merge_checkpoints(terms)
    close(merged, terms)
    assert merged.worst_error < 1e-7
    shared = merged.factors["model.layers.0.self_attn.q_proj"]
    assert shared.rank == (10 if weights[0] else 6)
    assert shared.scale == 1.0
    assert ("model.layers.0.mlp.down_proj" in merged.factors) == bool(weights[0])


def test_rslora_is_not_scaled_twice(b: LoraCheckpoint) -> None:
    """Trap 2: PEFT's own mixture of an rsLoRA source comes out too large by a root."""
    merged = merge_checkpoints([(b, 1.0)])
    module = "model.layers.1.self_attn.q_proj"
    A, B = b.factors[module].A.double(), b.factors[module].B.double()
    torch.testing.assert_close(delta(merged.factors[module]), 8 / 6**0.5 * B @ A, rtol=0, atol=1e-6)
    module = "model.layers.1.mlp.up_proj"
    A, B = b.factors[module].A.double(), b.factors[module].B.double()
    torch.testing.assert_close(delta(merged.factors[module]), 5 / 3**0.5 * B @ A, rtol=0, atol=1e-6)


def test_svd_at_the_full_rank_is_exact_and_below_it_the_best(
    a: LoraCheckpoint, b: LoraCheckpoint
) -> None:
    terms = [(a, 0.7), (b, 0.3)]
    close(merge_checkpoints(terms, "svd"), terms)
    close(merge_checkpoints(terms, "svd", options=MergeOptions(rank=99)), terms)
    cut = merge_checkpoints(terms, "svd", options=MergeOptions(rank=5))
    same = merge_checkpoints(terms, "exact", options=MergeOptions(rank=5))
    for module, factors in cut.factors.items():
        tail = torch.linalg.svdvals(sum_at(module, terms))
        assert factors.rank <= 5
        wanted = float(tail[5:].norm() / tail.norm())
        assert cut.errors[module] == pytest.approx(wanted, abs=1e-6)
        assert torch.equal(factors.A, same.factors[module].A)


@pytest.mark.parametrize("name", ["ties", "dare", "dare_ties", "magnitude_prune"])
def test_dense_methods_are_stored_whole_at_full_rank_and_name_their_error_below(
    a: LoraCheckpoint, b: LoraCheckpoint, name: str
) -> None:
    terms = [(a, 0.7), (b, -0.3)]
    seeded = MergeOptions(density=0.6, rank=64, seed=4 if "dare" in name else None)
    merged = merge_checkpoints(terms, name, options=seeded)
    assert merged.worst_error < 1e-6
    module = "model.layers.0.self_attn.q_proj"
    given = {"density": 0.6} | ({"seed": 4, "module": module} if "dare" in name else {})
    deltas = [delta(c.factors[module]) for c, _ in terms]
    wanted = merge_method(name)(deltas, [0.7, -0.3], **given)
    torch.testing.assert_close(delta(merged.factors[module]), wanted, atol=1e-5, rtol=1e-5)
    default = merge_checkpoints(terms, name, options=MergeOptions(density=0.6))
    assert default.factors[module].rank == 10
    assert 0.01 < default.mean_error < default.worst_error == default.errors[default.worst_layer]


def test_layers_get_masks_of_their_own(a: LoraCheckpoint) -> None:
    module = "model.layers.0.self_attn.q_proj"
    twin = module.replace("0", "1")
    alike = LoraCheckpoint(
        a.path, a.config, dict.fromkeys((module, twin), a.factors[module]), Digest([]), 0
    )
    merged = merge_checkpoints([(alike, 1.0)], "dare", options=MergeOptions(rank=64))
    assert not torch.allclose(delta(merged.factors[module]), delta(merged.factors[twin]))
    wanted = dare([delta(a.factors[module])], [1.0], module=twin)
    torch.testing.assert_close(delta(merged.factors[twin]), wanted, atol=1e-5, rtol=1e-5)


def test_adapters_that_cancel_leave_nothing_and_no_false_error(a: LoraCheckpoint) -> None:
    for method in ("exact", "svd", "ties"):
        merged = merge_checkpoints([(a, 0.7), (a, -0.7)], method)
        assert merged.worst_error == 0.0
        assert all(delta(f).abs().max() < 1e-6 for f in merged.factors.values())


def test_dtypes_may_differ_and_fp32_is_stored_unless_another_is_asked(
    tmp_path: Path, a: LoraCheckpoint
) -> None:
    terms: Terms = [(a, 0.5)]
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        tensors = factors_for(llama(), ("q_proj",), seed=7)
        folder = tmp_path / str(dtype)
        write_files(folder, {k: v.to(dtype) for k, v in tensors.items()}, target_modules=["q_proj"])
        terms.append((read_checkpoint(folder), 0.25))
    merged = merge_checkpoints(terms)
    close(merged, terms)
    assert {f.A.dtype for f in merged.factors.values()} == {torch.float32}
    half = merge_checkpoints(terms, options=MergeOptions(dtype="bfloat16"))
    assert {f.B.dtype for f in half.factors.values()} == {torch.bfloat16}
    assert 1e-4 < half.worst_error < 1e-2
    wide = merge_checkpoints(terms, options=MergeOptions(dtype="float64"))
    assert wide.worst_error == 0.0


def test_what_does_not_fit_the_dtype_is_refused(a: LoraCheckpoint) -> None:
    with pytest.raises(MixtureError, match=r"not finite in float16; lower the weights or use"):
        merge_checkpoints([(a, 1e7)], options=MergeOptions(dtype="float16"))
    with pytest.raises(MixtureError, match=r"not finite in float64; lower the weights$"):
        merge_checkpoints([(a, 1e308)], options=MergeOptions(dtype="float64"))


def test_adapters_of_different_models_are_refused(tmp_path: Path, a: LoraCheckpoint) -> None:
    one, two = (
        read_checkpoint(write_adapter(tmp_path / name, llama(), base_model_name_or_path=name))
        for name in ("llama", "qwen")
    )
    with pytest.raises(IncompatibleAdapterError, match=r"base model 'llama' and .* for 'qwen'"):
        merge_checkpoints([(one, 1.0), (two, 1.0)])
    merge_checkpoints([(one, 1.0), (two, 0.0), (a, 1.0)])
    module = "model.layers.0.self_attn.q_proj"
    narrow = Factors(torch.zeros(1, 8), torch.zeros(32, 1), 1.0)
    other = LoraCheckpoint(
        tmp_path / "narrow", LoraConfig(r=1, alpha=1), {module: narrow}, Digest([]), 0
    )
    with pytest.raises(IncompatibleAdapterError, match=r"q_proj is \(32, 32\) in .*\(32, 8\) in"):
        merge_checkpoints([(a, 1.0), (other, 1.0)])


def test_what_no_product_of_factors_can_store_is_refused(a: LoraCheckpoint) -> None:
    """Trap 6: DoRA and the like."""
    plain = a.factors["model.layers.0.self_attn.q_proj"]
    dora = Factors(plain.A, plain.B, 1.0, magnitude=torch.ones(32))
    held = LoraCheckpoint(a.path, a.config, {"layer": dora}, Digest([]), 0)
    with pytest.raises(UnsupportedAdapterError, match="changes layer by more than s B A"):
        merge_checkpoints([(a, 1.0), (held, 1.0)])
    merge_checkpoints([(a, 1.0), (held, 0.0)])


def test_a_mixture_of_nothing_is_refused(a: LoraCheckpoint) -> None:
    for terms in ([], [(a, 0.0)]):
        with pytest.raises(MixtureError, match="the mixture is the base model"):
            merge_checkpoints(terms)


def test_a_function_may_be_the_method_and_its_faults_are_named(a: LoraCheckpoint) -> None:
    def first(deltas: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
        return deltas[0]

    def broken(deltas: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
        raise ZeroDivisionError("oops")

    def small(deltas: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
        return deltas[0][:1]

    def infinite(deltas: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
        return deltas[0] / 0

    close(merge_checkpoints([(a, 5.0)], first), [(a, 1.0)])
    with pytest.raises(PluginError, match=r"'broken' failed on model.*: ZeroDivisionError: oops"):
        merge_checkpoints([(a, 1.0)], broken)
    with pytest.raises(PluginError, match=r"'tiny' returned .*must return .* \(32, 48\)"):
        merge_checkpoints([(a, 1.0)], small, name="tiny")
    with pytest.raises(MixtureError, match="not finite in float64"):
        merge_checkpoints([(a, 1.0)], infinite)
    with pytest.raises(ConfigError, match="'exact' takes no seed"):
        merge_checkpoints([(a, 1.0)], exact, options=MergeOptions(seed=1))


def test_progress_is_told_layer_by_layer(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_adapter(tmp_path, gpt2(), targets=("c_attn", "c_fc")))
    told: list[bool] = []
    merge_checkpoints([(checkpoint, 1.0)], done=lambda: told.append(True))
    assert len(told) == len(modules_of([(checkpoint, 1.0)])) == 4
