"""Targets are declared by PEFT's rules."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

from intrinsic.errors import CheckpointError
from intrinsic.lora import LoraConfig
from intrinsic.lora.config import read_config
from tests.tiny import write_files

MODULES = [
    f"model.layers.{layer}.{part}"
    for layer, part in product((0, 1, 11), ("self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj"))
] + ["lm_head", "q_proj_extra", "model.vision.blocks.1.self_attn.q_proj"]

SETTINGS: list[dict[str, object]] = [
    {"target_modules": ("q_proj",)},
    {"target_modules": ("self_attn.q_proj", "lm_head")},
    {"target_modules": ("model.layers.1.mlp.up_proj",)},
    {"target_modules": r".*\.(q|v)_proj"},
    {"target_modules": ("q_proj", "v_proj"), "exclude_modules": ("layers.0.self_attn.q_proj",)},
    {"target_modules": ("q_proj", "v_proj"), "exclude_modules": r".*layers\.1.*"},
    {"target_modules": ("q_proj",), "layers_to_transform": (1,)},
    {"target_modules": ("q_proj",), "layers_to_transform": (1,), "layers_pattern": ("layers",)},
    {"target_modules": ()},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_targets_are_those_that_peft_would_wrap(settings: dict[str, object]) -> None:
    from peft import LoraConfig as PeftConfig
    from peft.tuners.tuners_utils import _ExcludedModule, check_target_module_exists

    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
    theirs = PeftConfig(r=4, lora_alpha=8, **plain)
    theirs.target_modules = plain["target_modules"]
    ours = LoraConfig(r=4, alpha=8, **settings)  # type: ignore[arg-type]
    for module in MODULES:
        found = check_target_module_exists(theirs, module)
        assert ours.targets(module) == (bool(found) and not isinstance(found, _ExcludedModule))


MANY_FAMILIES = (
    r"(?:.*?(?:vision|image|language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn)"
    r".*?(?:q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj).*?)|"
    r"(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|mlp)\.(?:(?:q_proj|v_proj|up_proj)))"
)


@pytest.mark.parametrize(
    "pattern",
    [
        r".*\.(q|v)_proj",
        r"model\.layers\.(0|1)\..*(q_proj|v_proj)",
        r"(?!.*vision).*\.(q_proj)",
        r"^(?!.*(vision|audio)).*(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)$",
        r"(?:^|.*\.)(?:layers|h)\.\d+\.self_attn\.(q|k|v|o)_proj",
        r"(?i).*Q_PROJ",
        MANY_FAMILIES,
    ],
)
def test_the_patterns_that_people_write_are_read(tmp_path: Path, pattern: str) -> None:
    config = read_config(write_files(tmp_path, {}, None, target_modules=pattern))
    assert config.targets("model.layers.0.self_attn.q_proj")
    assert not config.targets("lm_head")


def test_patterns_of_ranks_and_layers_are_read(tmp_path: Path) -> None:
    ranks = {r"layers\.(0|1)\..*q_proj": 2, "v_proj": 3, "model.layers.11.mlp.up_proj": 5}
    layers = {"layers_to_transform": [1], "layers_pattern": ["blocks", "layers|h"]}
    folder = write_files(
        tmp_path, {}, None, rank_pattern=ranks, target_modules=["q_proj"], **layers
    )
    config = read_config(folder)
    names = ("layers.1.self_attn.q_proj", "layers.11.mlp.up_proj", "layers.0.self_attn.v_proj")
    assert [config.rank_of(f"model.{name}") for name in names] == [2, 5, 3]
    assert config.targets("model.blocks.1.q_proj")
    assert not config.targets("model.layers.1.q_proj")  # as in PEFT: the bar splits the whole


ENDLESS = [
    "(?:[a-z0-9_.]+)+!",
    "(a|.)*!",
    "(?:a?){30}a{30}",
    "(a{1,50}){1,50}!",
    ".*.*.*.*.*!",
    "a?" * 30 + "a" * 30,
    "(?:a|.)" * 30 + "!",
    "(?=(a+)+!)a",
    "(?:(?>a+)|b*)+!",
    "x" * 513,
]


@pytest.mark.parametrize("pattern", ENDLESS, ids=lambda pattern: pattern[:20])
@pytest.mark.parametrize(
    "setting",
    ["target_modules", "exclude_modules", "rank_pattern", "alpha_pattern", "layers_pattern"],
)
def test_a_pattern_that_could_match_for_hours_is_refused_before_it_is_tried(
    tmp_path: Path, setting: str, pattern: str
) -> None:
    value = {pattern: 4} if setting in ("rank_pattern", "alpha_pattern") else pattern
    folder = write_files(tmp_path, {}, None, **{setting: value})
    words = "513 characters" if len(pattern) > 512 else "which could take hours"
    named = rf"adapter_config\.json: {setting} has '{re.escape(pattern[:60])}.*{words}"
    with pytest.raises(CheckpointError, match=named):
        read_config(folder)
