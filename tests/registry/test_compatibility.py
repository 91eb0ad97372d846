"""A renamed copy of the base matches, another model of the same name does not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from intrinsic.engine import LoraEngine
from intrinsic.errors import IncompatibleAdapterError
from intrinsic.lora import read_checkpoint
from intrinsic.registry.compatibility import Compatibility, check, last_part
from intrinsic.registry.inspection import Inspection, inspect
from intrinsic.registry.signature import ModelSignature
from tests.registry.test_signature import GPT2_SMALL, LLAMA_3_8B, MISTRAL_7B
from tests.tiny import gpt2, llama, write_adapter

BASE = "meta-llama/Meta-Llama-3-8B"


def attention(layers: int, into: int, kv: int) -> dict[str, tuple[int, int]]:
    shapes = {"q_proj": (into, into), "v_proj": (into, kv)}
    return {
        f"model.layers.{layer}.self_attn.{name}": shape
        for layer in range(layers)
        for name, shape in shapes.items()
    }


def adapter(modules: dict[str, tuple[int, int]], base: str = BASE) -> Inspection:
    return Inspection("", 1, (8,), modules, ("lora",), "bfloat16", base)


LLAMA_MODULES = attention(32, 4096, 1024) | {"lm_head": (4096, 128256)}
LIVE_LLAMA = ModelSignature.from_config(LLAMA_3_8B, LLAMA_MODULES)
RECORDED_LLAMA = ModelSignature.from_config(LLAMA_3_8B)
LIVE_MISTRAL = ModelSignature.from_config(MISTRAL_7B, attention(32, 4096, 1024))
FOR_LLAMA = adapter(attention(32, 4096, 1024))


def test_the_recorded_base_matches_under_any_name() -> None:
    for name in (BASE, "/data/our-llama", ""):
        found = check(FOR_LLAMA, RECORDED_LLAMA, name, LIVE_LLAMA)
        assert found.verdict == "compatible"
        assert "has the architecture and sizes" in found.reason


def test_another_kind_of_model_does_not_match_under_the_same_name() -> None:
    found = check(FOR_LLAMA, RECORDED_LLAMA, BASE, LIVE_MISTRAL)
    assert found.verdict == "incompatible"
    assert "model_type llama against mistral" in found.reason
    assert not found.allows(forced=True)


@pytest.mark.parametrize(
    ("modules", "why"),
    [
        (attention(16, 4096, 1024), r"no layer model\.layers\.16\.self_attn\.q_proj \(and 31 more"),
        (attention(32, 2048, 512), r"q_proj maps 2048 to 2048, the adapter maps 4096 to 4096"),
        (attention(32, 4096, 4096), r"v_proj maps 4096 to 4096, the adapter maps 4096 to 1024"),
    ],
)
@pytest.mark.parametrize("recorded", [None, RECORDED_LLAMA])
def test_a_layer_that_does_not_fit_is_incompatible_whatever_else_agrees(
    modules: dict[str, tuple[int, int]], why: str, recorded: ModelSignature | None
) -> None:
    found = check(FOR_LLAMA, recorded, BASE, ModelSignature.from_config(LLAMA_3_8B, modules))
    assert found.verdict == "incompatible"
    assert re.search(why, found.reason)


@pytest.mark.parametrize(
    "name",
    [
        BASE,
        "meta-llama-3-8b",
        "/models/Meta-Llama-3-8B/",
        r"D:\models\Meta-Llama-3-8B",
        "/home/me/.cache/huggingface/hub/models--meta-llama--Meta-Llama-3-8B/snapshots/0f1e2d",
    ],
)
def test_without_a_record_the_same_name_and_fitting_shapes_do(name: str) -> None:
    found = check(FOR_LLAMA, None, name, LIVE_LLAMA)
    assert found == Compatibility("compatible", f"it was made for {BASE!r}, and all shapes fit")


@pytest.mark.parametrize("name", ["mistralai/Mistral-7B-v0.3", "meta-llama/Meta-Llama-3", "", "."])
def test_shapes_that_fit_under_another_name_are_unknown(name: str) -> None:
    found = check(FOR_LLAMA, None, name, LIVE_MISTRAL)
    assert found.verdict == "unknown"
    assert f"was made for {BASE!r}" in found.reason
    assert not found.allows()
    assert found.allows(forced=True)


def test_an_adapter_that_names_no_base_is_unknown() -> None:
    for live_name in (BASE, ""):
        found = check(adapter(attention(2, 4096, 1024), base=""), None, live_name, LIVE_LLAMA)
        assert found.verdict == "unknown"
        assert "does not say for which base model" in found.reason


def test_without_the_models_layers_a_name_alone_is_not_enough() -> None:
    found = check(FOR_LLAMA, None, BASE, RECORDED_LLAMA)
    assert found.verdict == "unknown"
    assert "whether its shapes fit" in found.reason
    assert check(FOR_LLAMA, RECORDED_LLAMA, "copy", RECORDED_LLAMA).verdict == "compatible"


def test_a_record_that_says_too_little_is_as_good_as_none() -> None:
    little = ModelSignature(model_type="llama")
    assert check(FOR_LLAMA, little, BASE, LIVE_LLAMA).verdict == "compatible"
    assert check(FOR_LLAMA, little, "another", LIVE_LLAMA).verdict == "unknown"
    assert check(FOR_LLAMA, little, BASE, LIVE_MISTRAL).verdict == "incompatible"


def test_a_gpt2_is_told_by_its_transposed_layers() -> None:
    modules = {
        "transformer.h.0.attn.c_attn": (768, 2304),
        "transformer.h.0.mlp.c_proj": (3072, 768),
    }
    live = ModelSignature.from_config(GPT2_SMALL, modules)
    assert check(adapter(modules, "gpt2"), None, "openai-community/gpt2", live).allows()
    swapped = adapter({name: shape[::-1] for name, shape in modules.items()}, "gpt2")
    assert check(swapped, None, "gpt2", live).verdict == "incompatible"


@pytest.mark.parametrize(("of", "to"), [(llama, llama), (gpt2, gpt2), (llama, gpt2), (gpt2, llama)])
def test_the_verdict_on_a_live_model_is_the_engines(
    tmp_path: Path, of: Callable[..., Any], to: Callable[..., Any]
) -> None:
    targets = ["c_attn", "c_proj"] if of is gpt2 else ["q_proj", "down_proj"]
    folder = write_adapter(tmp_path / "a", of(), targets=targets, base_model_name_or_path="tiny")
    model = to(seed=1)
    found = check(inspect(folder), None, "local/tiny", ModelSignature.of_model(model))
    assert found.allows() == (of is to)
    if of is to:
        LoraEngine(model).load(read_checkpoint(folder), "a")
    else:
        with pytest.raises(IncompatibleAdapterError):
            LoraEngine(model).load(read_checkpoint(folder), "a")


def test_a_live_model_with_adapters_loaded_keeps_its_signature(tmp_path: Path) -> None:
    model = llama()
    before = ModelSignature.of_model(model)
    LoraEngine(model).load(read_checkpoint(write_adapter(tmp_path / "a", model)), "a")
    assert ModelSignature.of_model(model) == before


def test_a_resized_copy_of_the_base_is_another_kind() -> None:
    grown = replace(LIVE_LLAMA, vocabulary=128257)
    found = check(FOR_LLAMA, RECORDED_LLAMA, BASE, grown)
    assert found.verdict == "incompatible"
    assert "vocabulary 128256 against 128257" in found.reason


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("org/Name", "name"),
        ("Name", "name"),
        ("/a/b/Name//", "name"),
        (r"C:\a\Name", "name"),
        (" ", ""),
        ("..", ""),
        ("/a/.", ""),
        ("/c/models--gpt2/snapshots/12", "gpt2"),
        ("/c/models--o--n/snapshots/12/", "n"),
    ],
)
def test_the_last_part_of_a_name(name: str, last: str) -> None:
    assert last_part(name) == last
