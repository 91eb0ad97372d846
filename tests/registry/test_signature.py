"""Equal kinds of models have equal signatures, however they were read; others differ in words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from intrinsic.engine.target import Target
from intrinsic.errors import ConfigError
from intrinsic.registry.signature import ModelSignature, modules_of
from tests.tiny import gpt2, llama

LLAMA_3_8B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "rope_theta": 500000.0,
    "torch_dtype": "bfloat16",
}
GPT2_SMALL: dict[str, Any] = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "n_inner": None,
    "vocab_size": 50257,
}
MISTRAL_7B = LLAMA_3_8B | {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "vocab_size": 32768,
}
GEMMA_3 = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "model_type": "gemma3",
    "vision_config": {"hidden_size": 1152, "num_hidden_layers": 27},
    "text_config": {"hidden_size": 2560, "num_hidden_layers": 34, "vocab_size": 262208},
}


def of(config: dict[str, Any]) -> ModelSignature:
    return ModelSignature.from_config(config)


def test_sizes_are_found_under_every_familys_names() -> None:
    found = of(LLAMA_3_8B)
    assert (found.model_type, found.hidden_size, found.layers) == ("llama", 4096, 32)
    assert (found.heads, found.kv_heads, found.vocabulary) == (32, 8, 128256)
    assert found.intermediate_size == 14336
    found = of(GPT2_SMALL)
    assert (found.hidden_size, found.layers, found.heads) == (768, 12, 12)
    assert (found.vocabulary, found.intermediate_size) == (50257, None)
    assert (of(GEMMA_3).hidden_size, of(GEMMA_3).layers) == (2560, 34)


def test_what_a_renamed_copy_may_change_does_not_count() -> None:
    copy = LLAMA_3_8B | {"_name_or_path": "/data/ours", "torch_dtype": "float32"}
    assert of(copy) == of(LLAMA_3_8B)
    assert of(copy).digest == of(LLAMA_3_8B).digest


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("hidden_size", 2048, "hidden_size 4096 against 2048"),
        ("num_hidden_layers", 16, "layers 32 against 16"),
        ("num_key_value_heads", 32, "kv_heads 8 against 32"),
        ("vocab_size", 128257, "vocabulary 128256 against 128257"),
        ("intermediate_size", 8192, "intermediate_size 14336 against 8192"),
        ("model_type", "mistral", "model_type llama against mistral"),
        ("architectures", ["LlamaModel"], "architectures LlamaForCausalLM against LlamaModel"),
    ],
)
def test_another_size_or_architecture_is_another_kind(key: str, value: object, words: str) -> None:
    other = of(LLAMA_3_8B | {key: value})
    assert of(LLAMA_3_8B).differences(other) == [words]
    assert of(LLAMA_3_8B).is_same_kind(other) is False
    assert of(LLAMA_3_8B).digest != other.digest


def test_what_one_config_leaves_out_is_no_difference() -> None:
    older = {key: value for key, value in LLAMA_3_8B.items() if key != "num_key_value_heads"}
    assert of(older).is_same_kind(of(LLAMA_3_8B)) is True
    assert of(older).digest != of(LLAMA_3_8B).digest


@pytest.mark.parametrize("key", ["model_type", "hidden_size", "num_hidden_layers", "vocab_size"])
def test_too_little_known_is_neither_the_same_nor_another(key: str) -> None:
    little = {name: value for name, value in LLAMA_3_8B.items() if name != key}
    assert of(little).is_same_kind(of(LLAMA_3_8B)) is None
    assert of({}).is_same_kind(of(LLAMA_3_8B)) is None


def test_values_of_other_types_are_not_known() -> None:
    odd = of({"hidden_size": "big", "num_attention_heads": [4, 8], "vocab_size": True})
    assert odd == ModelSignature()
    assert of({"architectures": None, "text_config": 3}) == ModelSignature()


def test_a_live_model_agrees_with_the_config_that_it_saves(tmp_path: Path) -> None:
    model = llama()
    live = ModelSignature.of_model(model)
    model.save_pretrained(tmp_path)
    saved = of(json.loads((tmp_path / "config.json").read_text()))
    assert live.architectures == ("LlamaForCausalLM",)
    assert live.modules
    assert not saved.modules
    assert live.is_same_kind(saved) is True
    assert live.digest == saved.digest == ModelSignature.of_model(llama(seed=1)).digest


@pytest.mark.parametrize("make", [llama, gpt2])
def test_modules_are_those_of_the_engine_in_its_order_of_in_and_out(make: Any) -> None:
    model = make()
    layers = dict(model.named_modules())
    found = modules_of(model)
    assert len(found) >= 11
    for name, shape in found.items():
        target = Target(name, layers[name])
        assert shape == (target.in_features, target.out_features)


def test_a_model_wrapped_by_peft_has_the_modules_of_its_base() -> None:
    peft = pytest.importorskip("peft")
    plain = ModelSignature.of_model(llama())
    config = peft.LoraConfig(target_modules=["q_proj", "embed_tokens"], r=2, task_type="CAUSAL_LM")
    assert ModelSignature.of_model(peft.get_peft_model(llama(), config)) == plain


def test_a_model_without_a_config_has_its_modules() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.Embedding(7, 2), nn.LayerNorm(2))
    found = ModelSignature.of_model(model)
    assert found.modules == {"0": (3, 5), "1": (7, 2)}
    assert found.is_same_kind(ModelSignature.of_model(model)) is True


def test_one_layer_of_another_shape_is_another_kind() -> None:
    model = llama()
    whole = ModelSignature.of_model(model)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj = nn.Linear(32, 40)
    pruned = ModelSignature.of_model(model)
    assert whole.differences(pruned) == ["another layer model.layers.1.mlp.up_proj"]
    assert whole.is_same_kind(replace(pruned, modules={})) is True


def test_as_json_is_plain_and_comes_back_equal() -> None:
    found = ModelSignature.of_model(gpt2())
    back = ModelSignature.from_json(json.loads(json.dumps(found.as_json())))
    assert back == found
    assert back.digest == found.digest


@pytest.mark.parametrize(
    "values",
    [{}, {"architectures": [], "modules": {"a": 1}}, {"architectures": [], "modules": {}, "b": 1}],
)
def test_other_json_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="is no signature of a model"):
        ModelSignature.from_json(values)
