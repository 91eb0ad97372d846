"""Every kind of target is scaled from its base, never compounding, and put back exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from intrinsic.errors import AdapterError, MixtureError, UnsupportedAdapterError
from intrinsic.scaling import ScaleRegistry
from tests.scaling.stand_ins import (
    Choosing,
    MappingLora,
    ScalarLora,
    ScaleLayerLora,
    SetScaleLora,
    Wrapped,
)

KINDS: dict[str, tuple[Callable[[], Any], Callable[[Any], float]]] = {
    "mapping": (lambda: MappingLora({"a": 0.7}), lambda layer: layer.scaling["a"]),
    "set_scale": (lambda: SetScaleLora({"a": 0.7}), lambda layer: layer.in_force["a"]),
    "scalar": (lambda: ScalarLora(0.7), lambda layer: layer.scaling),
    "scale_layer": (lambda: ScaleLayerLora(0.7), lambda layer: layer.in_force),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_factor_is_taken_from_the_base_and_the_base_comes_back(kind: str) -> None:
    make, scale = KINDS[kind]
    model = Wrapped(make(), make(), active_adapter="a")
    registry = ScaleRegistry.attach(model)
    assert {target.kind for target in registry.targets("a")} == {kind}
    for factor in (0.5, 0.5, 3, -1.0, 0.0, 0.3, 0.5):
        report = registry.set_scaling("a", factor)
        assert len(report.changed) + len(report.skipped) == 2
        assert [scale(layer) for layer in model.lora] == [0.7 * factor] * 2
    assert registry.get_scaling("a") == 0.5
    registry.restore()
    assert [scale(layer) for layer in model.lora] == [0.7, 0.7]
    assert registry.get_scaling("a") == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_off_keeps_the_factor_and_on_applies_it(kind: str) -> None:
    make, scale = KINDS[kind]
    model = Choosing(make(), active_adapter="a")
    registry = ScaleRegistry.attach(model)
    registry.set_scaling("a", 0.25)
    registry.set_active(None)
    assert not registry.active
    assert scale(model.lora[0]) == 0.0
    assert registry.get_scaling("a") == 0.25
    report = registry.set_scaling("a", 0.5)
    assert scale(model.lora[0]) == 0.0
    assert report.scaling == 0.5
    assert not report.changed or kind in ("set_scale", "scale_layer")
    registry.set_active("a")
    assert registry.active == ("a",)
    assert scale(model.lora[0]) == 0.35


def test_a_base_that_is_whole_comes_back_as_it_was() -> None:
    model = Wrapped(MappingLora({"a": 2}), active_adapter="a")
    registry = ScaleRegistry.attach(model)
    registry.set_scaling("a", 0.25)
    registry.restore()
    assert repr(model.lora[0].scaling) == "{'a': 2}"


def test_a_tensor_keeps_its_place_and_comes_back_bit_for_bit() -> None:
    scaling = torch.tensor(0.7, dtype=torch.float16)
    before = scaling.clone()
    layers = MappingLora({"a": scaling}), ScalarLora(nn.Parameter(torch.tensor([0.7, 0.9])))
    model = Wrapped(*layers, active_adapter="a")
    registry = ScaleRegistry.attach(model)
    registry.set_scaling("a", 1 / 3)
    assert model.lora[0].scaling["a"] is scaling
    assert scaling == before * (1 / 3)
    assert torch.equal(model.lora[1].scaling, torch.tensor([0.7, 0.9]) * (1 / 3))
    assert isinstance(model.lora[1].scaling, nn.Parameter)
    assert registry.set_scaling("a", 1 / 3).changed == ()
    registry.restore()
    assert torch.equal(scaling, before)
    assert torch.equal(model.lora[1].scaling, torch.tensor([0.7, 0.9]))


def test_a_scale_that_became_a_tensor_later_is_filled_in_place() -> None:
    model = Wrapped(MappingLora({"a": 0.7}), active_adapter="a")
    registry = ScaleRegistry.attach(model)
    tensor = model.lora[0].scaling["a"] = torch.tensor(0.7)
    registry.set_scaling("a", 0.5)
    assert model.lora[0].scaling["a"] is tensor
    assert tensor == torch.tensor(0.35)


def test_a_mapping_that_others_replace_is_written_all_the_same() -> None:
    model = Wrapped(MappingLora({"a": 2.0}), active_adapter="a")
    registry = ScaleRegistry.attach(model)
    model.lora[0].scaling = {"a": 99.0}
    registry.set_scaling("a", 0.5)
    assert model.lora[0].scaling == {"a": 1.0}


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 10**400, True, "0.5", None, 1j])
def test_a_factor_that_is_no_finite_number_changes_nothing(factor: Any) -> None:
    model = Wrapped(MappingLora({"a": 2.0}), active_adapter="a")
    registry = ScaleRegistry.attach(model)
    with pytest.raises(MixtureError, match=r"scaling of 'a' is .*; it must be .*; give"):
        registry.set_scaling("a", factor)
    assert model.lora[0].scaling == {"a": 2.0}


def test_a_factor_too_large_for_a_base_changes_no_layer() -> None:
    model = Wrapped(MappingLora({"a": 1.0}), MappingLora({"a": 8.0}), active_adapter="a")
    registry = ScaleRegistry.attach(model)
    with pytest.raises(MixtureError, match=r"base scale 8\.0 that is not finite"):
        registry.set_scaling("a", 1e308)
    assert [layer.scaling["a"] for layer in model.lora] == [1.0, 8.0]
    assert registry.get_scaling("a") == 1.0


class Broken(SetScaleLora):
    """Fails, or ignores what it is told, from the second time on."""

    calls = 0

    def set_scale(self, adapter: str, scale: float) -> None:
        self.calls += 1
        if self.calls == 2:
            raise RuntimeError("no")
        super().set_scale(adapter, scale)


def test_where_one_layer_fails_those_already_written_are_put_back() -> None:
    model = Choosing(
        MappingLora({"a": 0.7}), ScaleLayerLora(0.9), Broken({"a": 0.6}), active_adapter="a"
    )
    registry = ScaleRegistry.attach(model)
    registry.set_scaling("a", 0.3)
    with pytest.raises(AdapterError, match=r"'a' failed at layers\.2\.projection: no; every layer"):
        registry.set_scaling("a", 5)
    mapping, layer, broken = model.lora
    assert mapping.scaling["a"] == 0.7 * 0.3
    assert layer.in_force == 0.9 * 0.3
    assert broken.in_force["a"] == 0.6 * 0.3
    assert registry.get_scaling("a") == 0.3


class Deaf(dict[str, float]):
    """A mapping that keeps what it has."""

    def __setitem__(self, key: str, value: float) -> None:
        pass


def test_a_layer_that_does_not_take_a_scale_is_told() -> None:
    model = Wrapped(MappingLora({"a": 1.0}), MappingLora({"a": 2.0}), active_adapter="a")
    model.lora[1].scaling = Deaf(a=2.0)
    registry = ScaleRegistry.attach(model)
    with pytest.raises(AdapterError, match=r"kept 2\.0 where 1\.0 was written"):
        registry.set_scaling("a", 0.5)
    assert model.lora[0].scaling["a"] == 1.0


class Endless(nn.Module):
    """Compounds, and offers no way back."""

    def __init__(self) -> None:
        super().__init__()
        self.lora_A = nn.Linear(4, 2)

    def scale_layer(self, scale: float) -> None:
        raise AssertionError("must not be called")


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (Endless(), "no unscale_layer"),
        (ScalarLora(2.0), "one scale for a, b"),
        (ScaleLayerLora(2.0), "one scale for a, b"),
        (MappingLora({"a": float("nan")}), "must be finite"),
        (MappingLora({"a": 10**400}), "must be finite"),
        (MappingLora({"a": True}), "must be a number or a tensor"),
        (MappingLora({"a": "2"}), "must be a number or a tensor"),
        (nn.Linear(4, 4), "no LoRA layer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_scaled_exactly_is_refused_at_once(layer: nn.Module, words: str) -> None:
    names = ["a"] if isinstance(layer, Endless) else ["a", "b"]
    with pytest.raises(UnsupportedAdapterError, match=words):
        ScaleRegistry.attach(Wrapped(layer, adapters=names))


class RandLora(nn.Module):
    """Another method, whose name sounds alike."""

    adapter_layer_names = ("randlora_lambda", "randlora_gamma")
    scaling = 2.0


class OtherLora(MappingLora):
    """Carries `b` alone, with a number for a scale."""

    def __init__(self) -> None:
        super().__init__({"b": 0.0})
        self.scaling = 2.0  # type: ignore[assignment]


def test_layers_of_other_methods_and_of_other_adapters_are_left_alone() -> None:
    model = Wrapped(MappingLora({"a": 2.0}), RandLora(), OtherLora(), adapters=["a", "b"])
    registry = ScaleRegistry.attach(model)
    registry.set_scaling("a", 0.5)
    assert [layer.scaling for layer in model.lora] == [{"a": 1.0}, 2.0, 2.0]
    registry.set_scaling("b", 0.25)
    assert [layer.scaling for layer in model.lora] == [{"a": 1.0}, 2.0, 0.5]


def test_a_layer_that_lost_its_scale_is_told_and_nothing_is_written() -> None:
    model = Wrapped(MappingLora({"a": 2.0}), SetScaleLora({"a": 2.0}), MappingLora({"a": 2.0}))
    registry = ScaleRegistry.attach(model)
    model.lora[2].scaling = {}
    with pytest.raises(UnsupportedAdapterError, match="the scale of adapter 'a' is None"):
        registry.set_scaling("a", 0.5)
    assert model.lora[0].scaling == model.lora[1].in_force == {"a": 2.0}


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(UnsupportedAdapterError, match="named_modules"):
        ScaleRegistry.attach(object())  # type: ignore[arg-type]


def test_names_with_dots_and_prefixes_stay_apart() -> None:
    names = {"sql": 1.0, "sql_v2": 2.0, "sql.v2": 4.0, "weight": 8.0}
    model = Choosing(MappingLora(names), SetScaleLora(names), adapters=list(names))
    registry = ScaleRegistry.attach(model)
    registry.set_scaling("sql", 0.5)
    registry.set_scaling("sql.v2", 0.25)
    expected = {"sql": 0.5, "sql_v2": 2.0, "sql.v2": 1.0, "weight": 8.0}
    assert model.lora[0].scaling == model.lora[1].in_force == expected


def test_attention_is_not_touched_and_no_other_scaling_either() -> None:
    foreign = nn.Module()
    foreign.scaling = 3.0  # type: ignore[assignment]
    settings = nn.Module()
    settings.scaling = {"type": "linear", "factor": 2.0}  # type: ignore[assignment]
    model = Wrapped(MappingLora({"a": 2.0}), foreign, settings, active_adapter="a")
    registry = ScaleRegistry.attach(model)
    registry.set_scaling("a", 0.5)
    registry.set_active(None)
    assert [attention.scaling for attention in model.layers] == [0.125] * 3
    assert foreign.scaling == 3.0
    assert settings.scaling == {"type": "linear", "factor": 2.0}
    assert [target.path for target in registry.targets("a")] == ["layers.0.projection"]


def test_a_model_without_set_adapter_chooses_by_scale() -> None:
    model = Wrapped(MappingLora({"a": 2.0, "b": 3.0}))
    registry = ScaleRegistry.attach(model)
    registry.set_scaling("b", 0.5)
    registry.set_active("a")
    assert model.lora[0].scaling == {"a": 2.0, "b": 0.0}
    assert registry.active == ("a",)
    registry.set_active("b")
    assert model.lora[0].scaling == {"a": 0.0, "b": 1.5}


def test_a_model_that_calls_another_active_and_cannot_choose_is_refused() -> None:
    model = Wrapped(MappingLora({"a": 2.0, "b": 3.0}), adapters=["a", "b"], active_adapter="a")
    registry = ScaleRegistry.attach(model)
    with pytest.raises(AdapterError, match=r"'b' is not active \(a\) and the model has no set_"):
        registry.set_active("b")
    assert model.lora[0].scaling == {"a": 2.0, "b": 3.0}
    registry.set_active("a")
    assert registry.active == ("a",)


def test_a_failing_set_adapter_leaves_every_scale() -> None:
    def fail(name: str) -> None:
        raise RuntimeError("not today")

    model = Choosing(MappingLora({"a": 2.0, "b": 3.0}), adapters=["a", "b"], active_adapter="a")
    registry = ScaleRegistry.attach(model)
    registry.set_active(None)
    model.set_adapter = fail  # type: ignore[method-assign]
    with pytest.raises(AdapterError, match=r"set_adapter\('b'\) failed: not today"):
        registry.set_active("b")
    assert model.lora[0].scaling == {"a": 0.0, "b": 0.0}
    assert registry.active == ()


def test_merged_as_one_flag() -> None:
    model = Wrapped(ScalarLora(2.0))
    registry = ScaleRegistry.attach(model)
    model.lora[0].merged = True
    with pytest.raises(AdapterError, match="is merged into layers"):
        registry.set_scaling("default", 0.5)
    assert model.lora[0].scaling == 2.0
