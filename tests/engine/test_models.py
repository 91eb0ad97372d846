"""Any causal model of transformers: mixtures of PEFT's adapters are exact on it, and leave."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import XLNetConfig, XLNetLMHeadModel

from intrinsic.engine import LoraEngine
from intrinsic.errors import (
    IncompatibleAdapterError,
    IntrinsicError,
    MixtureError,
    UnsupportedAdapterError,
)
from intrinsic.lora import LoraCheckpoint, read_checkpoint
from intrinsic.mixture import BASE, Mixture
from tests.engine.zoo import KINDS, LLAMA, MOE, Kind, Made, in_fp64, make, wrap_with_peft
from tests.tiny import factors_for, tokens, write_files

ONE = Mixture.of({"a": 1.0})
BOTH = Mixture.of({"a": 0.7, "b": -0.3})
ROUNDINGS = {torch.float32: 64, torch.bfloat16: 8, torch.float16: 8}
"""How many roundings of the largest logit two ways of computing may lie apart."""


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model(ids).logits
        return out


def under(
    engine: LoraEngine, mixture: Mixture | Sequence[Mixture], ids: torch.Tensor, model: Any = None
) -> torch.Tensor:
    with engine.activate(mixture):
        return logits(engine.model if model is None else model, ids)


def answer(engine: LoraEngine, mixtures: Mixture | Sequence[Mixture], ids: torch.Tensor) -> Any:
    model: Any = engine.model
    with engine.activate(mixtures):
        return model.generate(ids, max_new_tokens=6, do_sample=False)


def engine_of(model: Any, checkpoints: Mapping[str, LoraCheckpoint]) -> LoraEngine:
    engine = LoraEngine(model)
    for name, checkpoint in checkpoints.items():
        engine.load(checkpoint, name)
    return engine


def assert_near(found: torch.Tensor, exact: torch.Tensor, dtype: torch.dtype) -> None:
    """Equal but for the roundings of `dtype`."""
    assert found.shape == exact.shape
    assert torch.isfinite(found).all()
    distance = (found.double() - exact.double()).abs().max() / exact.abs().max()
    assert distance <= ROUNDINGS[dtype] * torch.finfo(dtype).eps


def shadowed(model: torch.nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if "forward" in vars(module)]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    kind: Kind = request.param
    return make(kind, tmp_path_factory.mktemp(kind.name))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(LLAMA, tmp_path_factory.mktemp("compiled"))


def test_one_adapter_equals_pefts_own_forward_side_car_and_merged(made: Made) -> None:
    model, ids = made.kind.build(), tokens()
    theirs = logits(made.peft_model, ids)
    engine = engine_of(model, made.checkpoints)
    assert_near(under(engine, ONE, ids), theirs, torch.float32)
    engine.merge(ONE)
    assert_near(under(engine, ONE, ids), theirs, torch.float32)


@pytest.mark.parametrize("dtype", ROUNDINGS, ids=str)
def test_a_mixture_of_two_equals_the_fp64_reference_side_car_and_merged(
    made: Made, dtype: torch.dtype
) -> None:
    model, ids = made.kind.build(dtype, **made.kind.smooth), tokens()
    parts = [BASE, ONE, Mixture.of({"b": -0.3}), BOTH]
    exact = [logits(in_fp64(model, made.checkpoints, mixture), ids) for mixture in parts]
    engine = engine_of(model, made.checkpoints)
    assert_near(under(engine, BOTH, ids), exact[-1], dtype)
    engine.merge(BOTH)
    assert_near(under(engine, BOTH, ids), exact[-1], dtype)
    for one, other in combinations(exact, 2):  # or being near would say nothing
        with pytest.raises(AssertionError):
            assert_near(one, other, dtype)


@pytest.mark.parametrize("width", [1, 7, 20])
def test_every_row_of_a_batch_is_what_it_is_alone(made: Made, width: int) -> None:
    engine = engine_of(made.kind.build(), made.checkpoints)
    mixtures, ids = [ONE, BASE, BOTH, Mixture.of({"b": 1.5})], tokens(rows=4, width=width)
    together = under(engine, mixtures, ids)
    for row, mixture in enumerate(mixtures):
        alone = under(engine, mixture, ids[row : row + 1])
        assert_near(together[row : row + 1], alone, torch.float32)


def test_generation_under_a_mixture_is_that_of_the_reference(made: Made) -> None:
    model, ids = made.kind.build(), tokens()
    exact = in_fp64(model, made.checkpoints, BOTH).generate(ids, max_new_tokens=6, do_sample=False)
    base = model.generate(ids, max_new_tokens=6, do_sample=False)
    engine = engine_of(model, made.checkpoints)
    assert exact.shape[1] == ids.shape[1] + 6
    assert torch.equal(answer(engine, BOTH, ids), exact)
    assert torch.equal(answer(engine, [BOTH, BASE], ids), torch.stack([exact[0], base[1]]))
    assert torch.equal(answer(engine, BASE, ids), base)
    assert not torch.equal(exact, base)


def test_after_unloading_nothing_is_left(made: Made) -> None:
    model, ids = made.kind.build(), tokens()
    before, names = logits(model, ids), [name for name, _ in model.named_modules()]
    engine = LoraEngine(model)
    digest = engine.fingerprint()
    for name, checkpoint in made.checkpoints.items():
        engine.load(checkpoint, name)
    assert shadowed(model)
    assert engine.fingerprint() == digest
    engine.merge(BOTH)
    assert engine.fingerprint() != digest
    engine.restore()
    answer(engine, BOTH, ids)
    for name in made.checkpoints:
        engine.unload(name)
    assert engine.fingerprint() == digest
    assert not shadowed(model)
    assert [name for name, _ in model.named_modules()] == names
    assert torch.equal(logits(model, ids), before)


@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings=True:UserWarning")
@pytest.mark.parametrize("kind", [k for k in KINDS if k.tied], ids=lambda kind: kind.name)
def test_beside_a_tied_head_an_adapter_leaves_the_embeddings_alone(
    tmp_path: Path, kind: Kind
) -> None:
    model, ids = kind.build(), tokens()
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    theirs = wrap_with_peft(model, ["lm_head"], seed=3, r=4, lora_alpha=8)
    theirs.save_pretrained(str(tmp_path), save_embedding_layers=False)
    before = logits(model, ids)
    engine = engine_of(model, {"a": read_checkpoint(tmp_path)})
    assert_near(under(engine, ONE, ids), logits(theirs, ids), torch.float32)
    engine.unload("a")
    assert torch.equal(logits(model, ids), before)


def test_padding_on_the_left_changes_no_row(made: Made) -> None:
    model, ids = made.kind.build(), tokens(rows=2, width=9)
    engine = engine_of(model, made.checkpoints)
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    with torch.no_grad(), engine.activate([BASE, BOTH]):
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        padded = model(ids, attention_mask=mask, position_ids=positions).logits
    alone = under(engine, BOTH, ids[1:, 4:])
    assert_near(padded[1:, 4:], alone, torch.float32)


def test_beams_are_searched_under_one_mixture_and_refused_under_one_per_row(llama: Made) -> None:
    model, ids = llama.kind.build(), tokens()
    beams: dict[str, Any] = {"max_new_tokens": 4, "num_beams": 3, "do_sample": False}
    exact = in_fp64(model, llama.checkpoints, BOTH).generate(ids, **beams)
    engine = engine_of(model, llama.checkpoints)
    with engine.activate(BOTH):
        assert torch.equal(model.generate(ids, **beams), exact)
    with engine.activate([BOTH, BASE]), pytest.raises(MixtureError, match="6 inputs for 2"):
        model.generate(ids, **beams)


def test_adapters_of_experts_are_refused_in_words_before_anything_changes(tmp_path: Path) -> None:
    model = MOE.build()
    theirs = wrap_with_peft(
        model, ["q_proj"], seed=1, target_parameters=["mlp.experts.gate_up_proj"]
    )
    theirs.save_pretrained(str(tmp_path))
    engine = LoraEngine(model)
    digest = engine.fingerprint()
    with pytest.raises(UnsupportedAdapterError, match=r"target_parameters.*bare parameters"):
        engine.load(read_checkpoint(tmp_path), "a")
    assert engine.fingerprint() == digest
    assert not shadowed(model)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("mlp.experts", "mlp.experts is Qwen2MoeExperts; LoRA can be applied to nn.Linear"),
        ("mlp.experts.0.up_proj", "the model has no layer model.layers.0.mlp.experts.0.up_proj"),
        ("mlp.gate", "mlp.gate is Qwen2MoeTopKRouter; LoRA can be applied to nn.Linear"),
    ],
)
def test_factors_for_bare_parameters_are_refused_by_name_and_nothing_is_loaded(
    tmp_path: Path, module: str, words: str
) -> None:
    model = MOE.build()
    key = f"base_model.model.model.layers.0.{module}"
    tensors = factors_for(model, ["q_proj"]) | {
        f"{key}.lora_A.weight": torch.ones(4, 32),
        f"{key}.lora_B.weight": torch.ones(4, 4),
    }
    engine = LoraEngine(model)
    with pytest.raises(IncompatibleAdapterError, match=re.escape(words)):
        engine.load(read_checkpoint(write_files(tmp_path, tensors)), "a")
    assert engine.loaded == ()
    assert engine.bytes_used == 0
    assert not shadowed(model)


@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="Mamba reads dt_proj.weight itself and never calls dt_proj, so that a side-car beside "
    "it is silently ignored; merged mode is right",
)
def test_a_layer_that_its_model_never_calls_is_applied_or_refused(tmp_path: Path) -> None:
    kind = Kind("Mamba", {"state_size": 4, "time_step_rank": 4})
    model, ids = kind.build(), tokens()
    checkpoint = read_checkpoint(write_files(tmp_path, factors_for(model, ["dt_proj"])))
    exact = logits(in_fp64(model, {"a": checkpoint}, ONE), ids)
    try:
        found = under(engine_of(model, {"a": checkpoint}), ONE, ids)
    except IntrinsicError:
        return
    assert_near(found, exact, torch.float32)


@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="XLNet's layers work on (tokens, rows, width); where there are as many tokens as rows, "
    "token i of every row silently runs under the mixture of row i",
)
def test_rows_of_a_model_that_puts_tokens_first_are_exact_or_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = XLNetConfig(vocab_size=97, d_model=32, n_layer=2, n_head=4, d_inner=48)
    model, ids = XLNetLMHeadModel(config).eval(), tokens(rows=2, width=2)
    tensors = factors_for(model, ["layer_1"])
    engine = engine_of(model, {"a": read_checkpoint(write_files(tmp_path, tensors))})
    alone = torch.cat(
        [under(engine, mixture, ids)[i : i + 1] for i, mixture in ((0, ONE), (1, BASE))]
    )
    try:
        together = under(engine, [ONE, BASE], ids)
    except MixtureError:
        return
    assert_near(together, alone, torch.float32)


def compile_whole(model: Any) -> Any:
    return torch.compile(model, backend="eager")


def compile_in_place(model: Any) -> Any:
    model.compile(backend="eager")
    return model


def compile_layers(model: Any) -> Any:
    for layer in model.model.layers:
        layer.compile(backend="eager")
    return model


def compile_one_projection(model: Any) -> Any:
    model.model.layers[0].self_attn.q_proj.compile(backend="eager")
    return model


@pytest.mark.parametrize(
    "compiled", [compile_whole, compile_in_place, compile_layers, compile_one_projection]
)
def test_a_compiled_model_follows_every_change_of_adapters_and_mixtures(
    llama: Made, compiled: Any
) -> None:
    """Though compiled before any adapter was there, and past the limit of recompilations."""
    torch.compiler.reset()
    model, ids = LLAMA.build(), tokens()
    plain = engine_of(LLAMA.build(), llama.checkpoints)
    run = compiled(model)
    before = logits(run, ids)
    assert_near(before, under(plain, BASE, ids), torch.float32)
    engine = engine_of(model, llama.checkpoints)
    with torch._dynamo.config.patch(recompile_limit=3):
        for mixture in (ONE, BOTH, BASE, Mixture.of({"b": 1.0}), BOTH, [BOTH, BASE], [BASE, ONE]):
            found = under(engine, mixture, ids, run)
            assert_near(found, under(plain, mixture, ids), torch.float32)
        engine.merge(BOTH)
        assert_near(under(engine, BOTH, ids, run), under(plain, BOTH, ids), torch.float32)
        engine.restore()
        engine.unload("a")
        only = Mixture.of({"b": 1.0})
        assert_near(under(engine, only, ids, run), under(plain, only, ids), torch.float32)
        engine.close()
        assert torch.equal(logits(run, ids), before)


def test_a_graph_that_may_not_break_is_refused_rather_than_wrong(llama: Made) -> None:
    torch.compiler.reset()
    model = LLAMA.build()
    run: Any = torch.compile(model, backend="eager", fullgraph=True)
    logits(run, tokens())
    engine = engine_of(model, llama.checkpoints)
    with engine.activate(ONE), pytest.raises(torch._dynamo.exc.Unsupported):
        logits(run, tokens())


def test_an_engine_on_the_wrapper_of_a_compiled_model_serves_the_model_inside(llama: Made) -> None:
    torch.compiler.reset()
    model = LLAMA.build()
    wrapper: Any = torch.compile(model, backend="eager")
    engine = LoraEngine(wrapper)
    engine.load(llama.checkpoints["a"], "a")
    with engine.activate(ONE):
        compiled, plain = logits(wrapper, tokens()), logits(model, tokens())
    torch.testing.assert_close(compiled, plain)
    assert not torch.allclose(compiled, logits(model, tokens()))
