"""The register on models that the real PEFT wrapped."""

from __future__ import annotations

import gc
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import (
    LoHaConfig,
    LoraConfig,
    PeftMixedModel,
    get_peft_model,
    inject_adapter_in_model,
)
from peft.helpers import rescale_adapter_scale
from peft.tuners.lora import LoraLayer
from peft.utils.hotswap import prepare_model_for_compiled_hotswap

from intrinsic.errors import AdapterError, AdapterNotFoundError, UnsupportedAdapterError
from intrinsic.scaling import ScaleRegistry
from intrinsic.scaling.report import Refreshed
from tests.tiny import gpt2, llama, tokens


def lora(**settings: Any) -> LoraConfig:
    chosen = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"]} | settings
    return LoraConfig(init_lora_weights=False, inference_mode=True, **chosen)


def wrapped() -> Any:
    """A Llama with `sql`, and `sql_v2` with rsLoRA and other ranks here and there."""
    model = get_peft_model(llama(), lora(), adapter_name="sql")
    patterns = {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {r"0\.self_attn\.o_proj": 5}}
    targets = ["q_proj", "v_proj", "o_proj"]
    model.add_adapter("sql_v2", lora(r=8, use_rslora=True, target_modules=targets, **patterns))
    return model.eval()


def logits(model: Any, **arguments: Any) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(tokens(), **arguments).logits
    return result


def layers(model: Any) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, LoraLayer)]


def scales(model: Any) -> list[dict[str, Any]]:
    return [dict(layer.scaling) for layer in layers(model)]


def everything_else(model: Any) -> dict[str, Any]:
    """Every tensor, and every number that a module which is not LoRA has."""
    state: dict[str, Any] = {key: value.clone() for key, value in model.state_dict().items()}
    for path, module in model.named_modules():
        if not isinstance(module, LoraLayer):
            numbers = {k: v for k, v in vars(module).items() if isinstance(v, int | float)}
            state |= {f"{path}.{key}": value for key, value in numbers.items()}
    return state


def assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert torch.equal(value, after[key]) if torch.is_tensor(value) else value == after[key]


def test_the_bases_are_what_peft_computed() -> None:
    registry = ScaleRegistry.attach(wrapped())
    assert registry.adapters == ("sql", "sql_v2")
    assert registry.active == ("sql",)
    assert {target.base for target in registry.targets("sql")} == {6 / 4}
    bases = {target.path[-18:]: target.base for target in registry.targets("sql_v2")}
    assert bases["0.self_attn.q_proj"] == 6 / math.sqrt(2)
    assert bases["1.self_attn.v_proj"] == 6 / math.sqrt(8)
    assert bases["0.self_attn.o_proj"] == 5 / math.sqrt(8)
    assert bases["1.self_attn.o_proj"] == 6 / math.sqrt(8)
    assert len(registry.targets("sql")) == 4
    assert len(registry.targets("sql_v2")) == 6


def test_half_twice_is_half_and_the_report_says_what_was_done() -> None:
    model = wrapped()
    registry = ScaleRegistry.attach(model)
    report = registry.set_scaling("sql", 0.5)
    assert (report.adapter, report.scaling, report.skipped) == ("sql", 0.5, ())
    assert report.changed == tuple(target.path for target in registry.targets("sql"))
    again = registry.set_scaling("sql", 0.5)
    assert again.changed == ()
    assert {skipped.why for skipped in again.skipped} == {"already at 0.5"}
    assert {target.scale for target in registry.targets("sql")} == {0.5 * 6 / 4}
    assert registry.get_scaling("sql") == 0.5


def test_a_name_that_begins_another_does_not_reach_it() -> None:
    model = wrapped()
    registry = ScaleRegistry.attach(model)
    before = [target.scale for target in registry.targets("sql_v2")]
    registry.set_scaling("sql", 0.5)
    assert [target.scale for target in registry.targets("sql_v2")] == before


@pytest.mark.parametrize("adapter", ["sql", "sql_v2"])
def test_a_factor_means_what_pefts_set_scale_means(adapter: str) -> None:
    ours, theirs = wrapped(), wrapped()
    theirs.load_state_dict(ours.state_dict())
    registry = ScaleRegistry.attach(ours)
    registry.set_active(adapter)
    theirs.set_adapter(adapter)
    for factor in (0.3, -2.0, 0.3):
        registry.set_scaling(adapter, factor)
        for layer in layers(theirs):
            layer.set_scale(adapter, factor)
        torch.testing.assert_close(logits(ours), logits(theirs))


def test_scale_layer_by_others_does_not_compound_with_ours() -> None:
    model = wrapped()
    registry = ScaleRegistry.attach(model)
    registry.set_scaling("sql", 0.5)
    for layer in layers(model):
        layer.scale_layer(7.0)
    registry.set_scaling("sql", 0.5)
    assert {target.scale for target in registry.targets("sql")} == {0.5 * 6 / 4}


def test_off_is_the_base_model_and_restore_is_bit_exact() -> None:
    model = wrapped()
    before, at_first, rest = scales(model), logits(model), everything_else(model)
    with model.disable_adapter():
        base = logits(model)
    registry = ScaleRegistry.attach(model)
    registry.set_scaling("sql", 1 / 3)
    registry.set_scaling("sql_v2", 0.1)
    assert not torch.equal(logits(model), at_first)
    registry.set_active(None)
    assert torch.equal(logits(model), base)
    for _ in range(100):
        registry.set_scaling("sql", 0.7)
        registry.set_active("sql")
        registry.set_active(None)
    registry.restore()
    assert scales(model) == before
    assert registry.active == ("sql",)
    assert torch.equal(logits(model), at_first)
    assert_same(rest, everything_else(model))


def test_attention_keeps_its_own_scaling() -> None:
    model = wrapped()
    registry = ScaleRegistry.attach(model)
    attention = [m for m in model.modules() if type(m).__name__ == "LlamaAttention"]
    before = everything_else(model)
    assert [module.scaling for module in attention] == [8**-0.5] * 2
    registry.set_scaling("sql", 0.25)
    registry.set_active(None)
    assert [module.scaling for module in attention] == [8**-0.5] * 2
    assert_same(before, everything_else(model))


def test_a_wrapped_attention_does_not_lend_its_scaling_to_the_wrapper() -> None:
    attention = llama().model.layers[0].self_attn
    registry = ScaleRegistry.attach(get_peft_model(attention, lora()))
    registry.set_scaling("default", 0.5)
    assert attention.scaling == 8**-0.5
    assert {target.path for target in registry.targets("default")} == {
        "base_model.model.q_proj",
        "base_model.model.v_proj",
    }


def test_a_factor_set_while_another_is_active_is_there_when_it_is_chosen() -> None:
    model = wrapped()
    registry = ScaleRegistry.attach(model)
    registry.set_scaling("sql_v2", 0.5)
    registry.set_active(None)
    report = registry.set_scaling("sql_v2", 0.25)
    assert report.changed == ()
    assert {skipped.why for skipped in report.skipped} == {
        "off; 0.25 is stored and applies when it is on"
    }
    registry.set_active("sql_v2")
    assert model.active_adapters == ["sql_v2"]
    assert registry.active == ("sql_v2",)
    for target in registry.targets("sql_v2"):
        assert target.scale == target.base * 0.25
    for target in registry.targets("sql"):
        assert target.scale == target.base


@pytest.mark.filterwarnings("ignore:Already unmerged")
def test_a_merged_adapter_is_refused_and_the_base_stays_sound() -> None:
    model = wrapped()
    base = {key: value.clone() for key, value in model.state_dict().items()}
    registry = ScaleRegistry.attach(model)
    registry.set_scaling("sql", 0.5)
    model.merge_adapter(["sql"])
    for change in (
        lambda: registry.set_scaling("sql", 2.0),
        lambda: registry.set_active(None),
        lambda: registry.set_active("sql_v2"),
        registry.restore,
    ):
        with pytest.raises(AdapterError, match=r"'sql' is merged into .*unmerge_adapter\(\) first"):
            change()
    assert registry.set_scaling("sql", 0.5).changed == ()
    assert len(registry.set_scaling("sql_v2", 0.5).changed) == 6
    model.unmerge_adapter()
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, base[key], rtol=0, atol=1e-6)
    registry.set_scaling("sql", 2.0)
    registry.restore()


def test_dora_is_scaled_as_peft_does_and_off_is_refused() -> None:
    ours, theirs = (get_peft_model(llama(), lora(use_dora=True)).eval() for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    registry = ScaleRegistry.attach(ours)
    at_first = logits(ours)
    registry.set_scaling("default", 0.5)
    for layer in layers(theirs):
        layer.set_scale("default", 0.5)
    assert torch.equal(logits(ours), logits(theirs))
    with pytest.raises(UnsupportedAdapterError, match=r"'default' is DoRA .*disable_adapter"):
        registry.set_active(None)
    assert registry.active == ("default",)
    registry.restore()
    assert torch.equal(logits(ours), at_first)


def test_disabled_layers_are_told_when_an_adapter_is_switched_on() -> None:
    model = wrapped()
    registry = ScaleRegistry.attach(model)
    with model.disable_adapter(), pytest.raises(AdapterError, match="enable_adapter_layers"):
        registry.set_active("sql")


def test_rows_with_adapters_of_their_own_get_the_factors() -> None:
    model = wrapped()
    registry = ScaleRegistry.attach(model)
    registry.set_scaling("sql", 0.5)
    registry.set_scaling("sql_v2", 0.25)
    rows = logits(model, adapter_names=["sql", "sql_v2"])
    for row, name in enumerate(registry.adapters):
        registry.set_active(name)
        torch.testing.assert_close(rows[row], logits(model)[row])


def test_attaching_again_finds_the_first_bases() -> None:
    model = wrapped()
    before = scales(model)
    ScaleRegistry.attach(model).set_scaling("sql", 0.5)
    ScaleRegistry.attach(model).set_scaling("sql", 0.5)
    again = ScaleRegistry.attach(model.base_model)
    assert again.get_scaling("sql") == 0.5
    assert {target.scale for target in again.targets("sql")} == {0.5 * 6 / 4}
    again.restore()
    assert scales(model) == before


def test_an_unknown_adapter_is_named_with_those_that_are_known() -> None:
    registry = ScaleRegistry.attach(wrapped())
    for ask in (
        lambda: registry.set_scaling("sq", 0.5),
        lambda: registry.get_scaling("sq"),
        lambda: registry.targets("sq"),
        lambda: registry.set_active("sq"),
    ):
        with pytest.raises(AdapterNotFoundError, match="unknown adapter 'sq'; known: sql, sql_v2"):
            ask()
    with pytest.raises(AdapterNotFoundError, match=r"unknown adapter \['sql'\]"):
        registry.set_scaling(["sql"], 0.5)  # type: ignore[arg-type]


def test_added_and_deleted_adapters_are_seen_after_refresh() -> None:
    model = wrapped()
    registry = ScaleRegistry.attach(model)
    registry.set_scaling("sql", 0.5)
    model.add_adapter("late", lora(lora_alpha=2))
    with pytest.raises(AdapterError, match=r"'late' has no registered target: it was added after"):
        registry.set_scaling("late", 0.5)
    model.delete_adapter("sql_v2")
    with pytest.raises(AdapterError, match=r"'sql_v2' has no registered target in .* any more"):
        registry.set_scaling("sql_v2", 0.5)
    assert registry.refresh() == Refreshed(added=("late",), removed=("sql_v2",))
    assert registry.adapters == ("sql", "late")
    assert registry.get_scaling("sql") == 0.5
    assert {target.base for target in registry.targets("sql")} == {6 / 4}
    assert len(registry.set_scaling("late", 0.5).changed) == 4
    assert registry.refresh() == Refreshed()


def test_an_adapter_loaded_anew_under_its_name_has_its_own_base() -> None:
    model = wrapped()
    registry = ScaleRegistry.attach(model)
    registry.set_scaling("sql_v2", 0.5)
    model.delete_adapter("sql_v2")
    model.add_adapter("sql_v2", lora(lora_alpha=3))
    with pytest.raises(AdapterError, match=r"deleted or loaded anew; call refresh\(\)"):
        registry.set_scaling("sql_v2", 0.5)
    assert registry.refresh() == Refreshed(rebased=("sql_v2",))
    assert registry.get_scaling("sql_v2") == 1.0
    registry.set_scaling("sql_v2", 2.0)
    assert {(t.base, t.scale) for t in registry.targets("sql_v2")} == {(3 / 4, 3 / 2)}


def test_an_adapter_loaded_anew_at_the_scale_that_we_left_is_a_new_one() -> None:
    model = wrapped()
    registry = ScaleRegistry.attach(model)
    model.add_adapter("c", lora(lora_alpha=4))
    registry.refresh()
    registry.set_scaling("c", 0.5)
    model.delete_adapter("c")
    model.add_adapter("c", lora(lora_alpha=2))
    assert registry.refresh() == Refreshed(rebased=("c",))
    assert {target.base for target in registry.targets("c")} == {0.5}


def test_a_scale_that_somebody_else_wrote_is_told_at_refresh() -> None:
    model = wrapped()
    registry = ScaleRegistry.attach(model)
    registry.set_scaling("sql", 0.5)
    one, *_ = layers(model)
    one.scaling["sql"] = 9.0
    assert registry.refresh() == Refreshed(rebased=("sql",))
    assert registry.get_scaling("sql") == 0.5
    assert [target.scale for target in registry.targets("sql")] == [4.5, 0.75, 0.75, 0.75]
    one.scaling["sql"] = 8.0
    again = ScaleRegistry.attach(model)
    assert again.get_scaling("sql") == 0.5
    assert [target.scale for target in again.targets("sql")] == [4.0, 0.75, 0.75, 0.75]


def test_a_scale_that_somebody_else_wrote_just_as_we_would_is_ours() -> None:
    model = wrapped()
    registry = ScaleRegistry.attach(model)
    registry.set_scaling("sql", 0.25)
    for layer in layers(model):
        layer.set_scale("sql", 0.5)
    assert registry.set_scaling("sql", 0.5).changed == ()
    assert registry.refresh() == Refreshed()
    assert {target.base for target in registry.targets("sql")} == {6 / 4}


def test_restore_passes_over_adapters_that_have_left() -> None:
    model = wrapped()
    registry = ScaleRegistry.attach(model)
    before = [layer.scaling["sql"] for layer in layers(model) if "sql" in layer.scaling]
    registry.set_scaling("sql", 0.5)
    model.delete_adapter("sql_v2")
    assert [report.adapter for report in registry.restore()] == ["sql"]
    assert [layer.scaling["sql"] for layer in layers(model) if layer.scaling] == before


def test_an_unloaded_model_has_no_targets_any_more() -> None:
    model = wrapped()
    registry = ScaleRegistry.attach(model)
    registry.set_scaling("sql", 0.5)
    model.base_model.unload()
    gc.collect()
    with pytest.raises(AdapterError, match=r"'sql' has no registered target in .* any more"):
        registry.set_scaling("sql", 0.25)
    registry.refresh()
    with pytest.raises(UnsupportedAdapterError, match="'sql' has no registered target: no LoRA"):
        registry.set_scaling("sql", 0.25)
    assert registry.restore() == ()


def test_pefts_own_rescaling_context_comes_and_goes() -> None:
    model = wrapped()
    registry = ScaleRegistry.attach(model)
    registry.set_scaling("sql", 0.5)
    with rescale_adapter_scale(model, 3.0):
        pass
    registry.set_scaling("sql", 0.25)
    assert {target.scale for target in registry.targets("sql")} == {0.25 * 6 / 4}


def test_scales_kept_as_tensors_for_compiled_models() -> None:
    model = wrapped()
    prepare_model_for_compiled_hotswap(model, target_rank=8)
    before = scales(model)
    kept = [{name: scale.clone() for name, scale in each.items()} for each in before]
    registry = ScaleRegistry.attach(model)
    registry.set_scaling("sql", 0.3)
    assert all(
        now[n] is was[n] for now, was in zip(scales(model), before, strict=True) for n in was
    )
    assert {target.scale for target in registry.targets("sql")} == {float(torch.tensor(1.5) * 0.3)}
    registry.restore()
    assert scales(model) == kept


def test_an_adapter_of_another_method_has_no_target() -> None:
    model = PeftMixedModel(llama(), lora(), adapter_name="lora")
    model.add_adapter("loha", LoHaConfig(target_modules=["q_proj", "o_proj"], init_weights=False))
    registry = ScaleRegistry.attach(model)
    loha = [m for m in model.modules() if type(m).__name__ == "Linear" and hasattr(m, "hada_w1_a")]
    before = [dict(module.scaling) for module in loha]
    assert registry.adapters == ("lora", "loha")
    with pytest.raises(UnsupportedAdapterError, match=r"'loha' has no registered target"):
        registry.set_scaling("loha", 0.5)
    assert len(registry.set_scaling("lora", 0.5).changed) == 4
    assert [module.scaling for module in loha] == before != []


def test_a_model_without_adapters_is_refused() -> None:
    for model in (llama(), get_peft_model(llama(), LoHaConfig(target_modules=["q_proj"]))):
        with pytest.raises(UnsupportedAdapterError, match="has no LoRA layer"):
            ScaleRegistry.attach(model)


def added_by_transformers() -> Any:
    model = llama()
    model.add_adapter(lora(), "default")
    return model.eval()


def injected() -> Any:
    return inject_adapter_in_model(lora(), llama(), "default").eval()


def in_gpt2() -> Any:
    config = lora(target_modules=["c_attn", "wte"], fan_in_fan_out=True)
    return get_peft_model(gpt2(), config).eval()


def in_experts() -> Any:
    config = lora(target_modules=["q_proj"], target_parameters=["up_proj.weight"])
    return get_peft_model(llama(), config).eval()


@pytest.mark.parametrize("make", [added_by_transformers, injected, in_gpt2, in_experts])
def test_other_ways_in(make: Callable[[], Any]) -> None:
    model = make()
    registry = ScaleRegistry.attach(model)
    at_first = logits(model)
    assert registry.adapters == registry.active == ("default",)
    assert len(registry.targets("default")) == len(layers(model)) > 0
    registry.set_scaling("default", 0.5)
    assert not torch.equal(logits(model), at_first)
    registry.set_active(None)
    off = logits(model)
    registry.set_scaling("default", 0.0)
    registry.restore()
    assert torch.equal(logits(model), at_first)
    for layer in layers(model):
        layer.enable_adapters(False)
    assert torch.equal(logits(model), off)


@pytest.mark.parametrize("make", [injected, lambda: wrapped().get_base_model()])
def test_a_model_of_transformers_with_layers_that_others_put_in_chooses(make: Any) -> None:
    model = make()
    registry = ScaleRegistry.attach(model)
    name, *others = registry.adapters
    at_first = logits(model)
    registry.set_active(None)
    assert not registry.active
    registry.set_scaling(name, 0.5)
    registry.set_active(name)
    assert name in registry.active
    registry.set_scaling(name, 1.0)
    assert torch.equal(logits(model), at_first)
    for other in others:
        with pytest.raises(AdapterError, match=r"not active .* in the model's own way"):
            registry.set_active(other)


def test_it_works_without_peft_and_is_imported_without_torch() -> None:
    code = """
import sys
sys.modules["peft"] = None
from intrinsic import ScaleRegistry
assert "torch" not in sys.modules
from tests.scaling.stand_ins import MappingLora, Wrapped
model = Wrapped(MappingLora({"a": 2.0}), active_adapter="a")
ScaleRegistry.attach(model).set_scaling("a", 0.5)
assert model.lora[0].scaling == {"a": 1.0}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
