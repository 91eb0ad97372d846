"""PEFT's special kinds of LoRA: exact against PEFT's own forward, or refused before a change."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from intrinsic.engine import LoraEngine
from intrinsic.errors import IncompatibleAdapterError, MixtureError, UnsupportedAdapterError
from intrinsic.lora import delta, read_checkpoint
from intrinsic.mixture import Mixture
from tests.engine.zoo import KINDS as MODELS
from tests.tiny import gpt2, llama, tokens, write_adapter

PHI = next(kind for kind in MODELS if kind.name == "Phi")
LINEAR = ["q_proj", "v_proj", "down_proj"]
KINDS: dict[str, dict[str, Any]] = {
    "DoRA": {"target_modules": LINEAR, "use_dora": True},
    "DoRA with rsLoRA": {"target_modules": LINEAR, "use_dora": True, "use_rslora": True},
    "lora_bias": {"target_modules": LINEAR, "lora_bias": True},
    "embeddings": {"target_modules": ["embed_tokens", "q_proj"]},
    "head": {"target_modules": ["lm_head", "v_proj"]},
    "patterns": {
        "target_modules": LINEAR,
        "rank_pattern": {"q_proj": 2, "model.layers.1.mlp.down_proj": 6},
        "alpha_pattern": {"v_proj": 3},
    },
}

pytestmark = pytest.mark.filterwarnings(
    "ignore:Setting `save_embedding_layers`:UserWarning",
    "ignore:.*tie_word_embeddings:UserWarning",
    "ignore:.*tied:UserWarning",
    "ignore:fan_in_fan_out is set to False:UserWarning",
    "ignore:.lora_bias=True. was passed",
    "ignore:.*LoRA tensor.* invalid shape",  # of every lora_bias
)


def save_with_peft(base: Any, folder: Path, seed: int = 1, **settings: Any) -> Any:
    """Train nothing, but give every LoRA parameter random values; returns PEFT's own model."""
    config = LoraConfig(r=4, lora_alpha=6, task_type="CAUSAL_LM", **settings)
    wrapped = get_peft_model(copy.deepcopy(base), config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_magnitude" in name:
                parameter *= 1 + 0.3 * torch.randn(parameter.shape, generator=generator)
            elif "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    wrapped.eval()
    wrapped.save_pretrained(str(folder))
    return wrapped


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model(input_ids=ids).logits
        return out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_each_kind_is_what_peft_makes_of_it(tmp_path: Path, kind: str, tied: bool) -> None:
    base = llama(tied=tied)
    peft = save_with_peft(base, tmp_path, **KINDS[kind])
    engine = LoraEngine(base)
    before = engine.fingerprint()
    engine.load(read_checkpoint(tmp_path), "a")
    plain = logits(base, tokens())
    with engine.activate(Mixture.of({"a": 1.0})):
        found = logits(base, tokens())
    torch.testing.assert_close(found, logits(peft, tokens()), rtol=2e-5, atol=2e-5)
    assert not torch.allclose(found, plain, atol=1e-2)
    assert torch.equal(logits(base, tokens()), plain)
    engine.close()
    assert engine.fingerprint() == before


@pytest.mark.parametrize("kind", ["DoRA", "DoRA with rsLoRA", "embeddings", "head", "patterns"])
def test_merged_is_side_car(tmp_path: Path, kind: str) -> None:
    base = llama()
    save_with_peft(base, tmp_path, **KINDS[kind])
    engine = LoraEngine(base)
    engine.load(read_checkpoint(tmp_path), "a")
    mixture = Mixture.of({"a": 0.7})
    before = engine.fingerprint()
    with engine.activate(mixture):
        beside = logits(base, tokens())
    engine.merge(mixture)
    torch.testing.assert_close(logits(base, tokens()), beside, rtol=2e-5, atol=2e-5)
    engine.restore()
    assert engine.fingerprint() == before


@pytest.mark.parametrize("kind", ["plain", "DoRA", "lora_bias", "embeddings"])
def test_gpt2_is_what_peft_makes_of_it(tmp_path: Path, kind: str) -> None:
    extra: dict[str, dict[str, Any]] = {
        "plain": {},
        "DoRA": {"use_dora": True},
        "lora_bias": {"lora_bias": True},
        "embeddings": {"target_modules": ["wte", "c_attn"]},
    }
    settings = {"target_modules": ["c_attn", "c_proj"]} | extra[kind]
    base = gpt2()
    peft = save_with_peft(base, tmp_path, fan_in_fan_out=True, **settings)
    engine = LoraEngine(base)
    engine.load(read_checkpoint(tmp_path), "a")
    with engine.activate(Mixture.of({"a": 1.0})):
        found = logits(base, tokens())
    torch.testing.assert_close(found, logits(peft, tokens()), rtol=2e-5, atol=2e-5)
    if kind != "embeddings":  # its head shares the weight of its embedding
        engine.merge(Mixture.of({"a": 1.0}))
        torch.testing.assert_close(logits(base, tokens()), found, rtol=2e-5, atol=2e-5)


def test_a_mixture_with_dora_is_the_sum_of_the_deltas_in_any_order(tmp_path: Path) -> None:
    base = llama()
    checkpoints = {}
    for seed, (name, kind) in enumerate(
        {"a": "DoRA", "b": "DoRA with rsLoRA", "c": "head"}.items()
    ):
        save_with_peft(base, tmp_path / name, seed, **KINDS[kind])
        checkpoints[name] = read_checkpoint(tmp_path / name)
    weights = {"a": 0.7, "b": -0.4, "c": 1.2}
    exact = copy.deepcopy(base).double()
    for name, layer in exact.named_modules():
        changes = [
            delta(checkpoint.factors[name], weights[a], W=layer.weight)
            for a, checkpoint in checkpoints.items()
            if name in checkpoint.factors
        ]
        if changes:
            layer.weight.data = layer.weight.detach() + sum(changes)
    engine = LoraEngine(base)
    for name in ("c", "a", "b"):
        engine.load(checkpoints[name], name)
    with engine.activate(Mixture.of(weights)):
        found = logits(base, tokens())
    torch.testing.assert_close(found.double(), logits(exact, tokens()), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("width", [5, 24], ids=["stacked", "row by row"])
def test_rows_of_all_kinds_are_each_what_it_is_alone(tmp_path: Path, width: int) -> None:
    base = llama()
    engine = LoraEngine(base)
    kinds = ("DoRA", "lora_bias", "embeddings", "head", "patterns")
    for seed, kind in enumerate(kinds):
        save_with_peft(base, tmp_path / kind, seed, **KINDS[kind])
        engine.load(read_checkpoint(tmp_path / kind), kind)
    mixtures = [
        Mixture.of({"DoRA": 1.0}),
        Mixture.of({"lora_bias": 0.5, "DoRA": -0.5}),
        Mixture.of({"embeddings": 1.0, "patterns": 0.3}),
        Mixture.of({"embeddings": 1.0, "patterns": 0.3}),
        Mixture(),
        Mixture.of({"head": 2.0}),
    ]
    ids = tokens(len(mixtures), width)
    with engine.activate(mixtures):
        together = logits(base, ids)
    for row, mixture in enumerate(mixtures):
        with engine.activate(mixture):
            alone = logits(base, ids[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-5, atol=1e-5)


def test_scaling_an_adapter_scales_all_that_it_changes(tmp_path: Path) -> None:
    base = llama()
    for kind in ("DoRA", "lora_bias", "embeddings"):
        save_with_peft(base, tmp_path / kind, **KINDS[kind])
        engine = LoraEngine(base)
        engine.load(read_checkpoint(tmp_path / kind), "half", scaling=0.5)
        engine.load(read_checkpoint(tmp_path / kind), "whole")
        found = []
        for weights in ({"half": 1.0}, {"whole": 0.5}):
            with engine.activate(Mixture.of(weights)):
                found.append(logits(base, tokens()))
        torch.testing.assert_close(*found)
        engine.close()


def test_a_trained_bias_is_not_merged_into_a_layer_without_one(tmp_path: Path) -> None:
    base = llama()
    save_with_peft(base, tmp_path, **KINDS["lora_bias"])
    engine = LoraEngine(base)
    engine.load(read_checkpoint(tmp_path), "a")
    before = engine.fingerprint()
    with pytest.raises(UnsupportedAdapterError, match=r"has no bias.*use side-car mode"):
        engine.merge(Mixture.of({"a": 1.0}))
    assert engine.fingerprint() == before
    assert engine.merged is None


def test_a_tied_embedding_is_not_merged_for_it_would_change_the_head(tmp_path: Path) -> None:
    base = llama(tied=True)
    save_with_peft(base, tmp_path, **KINDS["embeddings"])
    engine = LoraEngine(base)
    engine.load(read_checkpoint(tmp_path), "a")
    with pytest.raises(UnsupportedAdapterError, match="share one weight"):
        engine.merge(Mixture.of({"a": 1.0}))


def test_a_copy_of_other_embeddings_is_refused(tmp_path: Path) -> None:
    save_with_peft(llama(seed=5), tmp_path, **KINDS["embeddings"])
    engine = LoraEngine(llama())
    before = engine.fingerprint()
    with pytest.raises(IncompatibleAdapterError, match=r"embed_tokens\.weight has other values"):
        engine.load(read_checkpoint(tmp_path), "a")
    assert engine.fingerprint() == before
    assert not engine.loaded


def test_a_head_with_a_bias_is_what_peft_makes_of_it(tmp_path: Path) -> None:
    base = PHI.build()
    peft = save_with_peft(base, tmp_path, target_modules=["lm_head", "q_proj"])
    engine = LoraEngine(base)
    engine.load(read_checkpoint(tmp_path), "a")
    with engine.activate(Mixture.of({"a": 1.0})):
        found = logits(base, tokens())
    torch.testing.assert_close(found, logits(peft, tokens()), rtol=2e-5, atol=2e-5)


def test_a_copy_of_a_heads_other_bias_is_refused(tmp_path: Path) -> None:
    save_with_peft(PHI.build(), tmp_path, target_modules=["lm_head"])
    other = PHI.build()
    with torch.no_grad():
        other.lm_head.bias += 1.0
    with pytest.raises(IncompatibleAdapterError, match=r"lm_head\.bias has other values"):
        LoraEngine(other).load(read_checkpoint(tmp_path), "a")


def test_factors_of_an_embedding_do_not_fit_a_matrix(tmp_path: Path) -> None:
    base = llama()
    save_with_peft(base, tmp_path, **KINDS["embeddings"])
    base.model.embed_tokens = torch.nn.Linear(97, 32, bias=False)
    with pytest.raises(IncompatibleAdapterError, match="embed_tokens is Linear"):
        LoraEngine(base).load(read_checkpoint(tmp_path), "a")


def test_an_embedding_that_renormalises_itself_is_refused(tmp_path: Path) -> None:
    base = llama()
    save_with_peft(base, tmp_path, **KINDS["embeddings"])
    base.model.embed_tokens.max_norm = 1.0
    with pytest.raises(IncompatibleAdapterError, match="max_norm"):
        LoraEngine(base).load(read_checkpoint(tmp_path), "a")


def test_peft_loads_what_it_saved_as_we_do(tmp_path: Path) -> None:
    base = llama()
    save_with_peft(base, tmp_path, **KINDS["DoRA"])
    peft = PeftModel.from_pretrained(copy.deepcopy(base), str(tmp_path)).eval()
    engine = LoraEngine(base)
    engine.load(read_checkpoint(tmp_path), "a")
    with engine.activate(Mixture.of({"a": 1.0})):
        torch.testing.assert_close(
            logits(base, tokens()), logits(peft, tokens()), rtol=2e-5, atol=2e-5
        )


class Rectified(torch.nn.Linear):
    """A linear layer by its class alone."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input).relu()


class Asking(torch.nn.Linear):
    """One that takes more than its input."""

    def forward(self, input: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().forward(input) * gate


class Named(torch.nn.Linear):
    """One whose forward is another's and computes the same."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(input, self.weight, self.bias)


def test_a_linear_layer_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    base = llama()
    path = write_adapter(tmp_path, base, targets=["down_proj"])
    for kind in (Rectified, Asking, Named):
        own = base.model.layers[1].mlp.down_proj
        other = kind(own.in_features, own.out_features, bias=False)
        other.weight = own.weight
        base.model.layers[1].mlp.down_proj = other
        engine, state = LoraEngine(base), torch.get_rng_state()
        if kind is Named:
            engine.load(read_checkpoint(path), "a")
        else:
            with pytest.raises(
                IncompatibleAdapterError, match=f"{kind.__name__}, whose forward is not W"
            ):
                engine.load(read_checkpoint(path), "a")
        assert torch.equal(torch.get_rng_state(), state)
        engine.close()


def test_an_adapter_that_nobody_uses_is_in_nobodys_way(tmp_path: Path) -> None:
    base = gpt2()
    engine = LoraEngine(base)
    for seed, name in enumerate("xy"):
        path = write_adapter(tmp_path / name, base, targets=["c_attn"], seed=seed)
        engine.load(read_checkpoint(path), name)
    rows = [Mixture.of({"x": 1.0}), Mixture.of({"y": 1.0})]
    with engine.activate(rows):
        before = logits(base, tokens())
    save_with_peft(gpt2(), tmp_path / "z", target_modules=["wpe"])  # whose input has no rows
    engine.load(read_checkpoint(tmp_path / "z"), "z")
    with engine.activate(rows):
        for _ in range(2):
            assert torch.equal(logits(base, tokens()), before)
    with engine.activate([*rows[:1], Mixture.of({"z": 1.0})]), pytest.raises(MixtureError):
        logits(base, tokens())
