"""Targets are declared by PEFT's rules."""

from __future__ import annotations

from itertools import product

import pytest

from intrinsic.lora import LoraConfig

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
