"""Adapter names are found in every shape in which they are exposed."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from intrinsic.scaling import ScaleRegistry
from intrinsic.scaling.names import active_names, adapter_names, names_in
from tests.scaling.stand_ins import (
    ByMethod,
    ByProperty,
    MappingLora,
    ScalarLora,
    Unloaded,
    Wrapped,
    config_with,
)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        (("a",), ("a",)),
        ({"a": object(), "a.b": None}, ("a", "a.b")),
        (nn.ModuleDict({"sql": nn.Identity(), "sql_v2": nn.Identity()}), ("sql", "sql_v2")),
        (nn.ParameterDict({}), ()),
        (lambda: ["a"], ("a",)),
        (config_with(adapters={"a": 1}), ("a",)),
        (config_with(adapter_names=["a", "b"]), ("a", "b")),
        (config_with(adapters=lambda: config_with(adapter_names="a")), ("a",)),
        (lambda required: ["a"], ()),
        (config_with(r=8), ()),
        (None, ()),
        ("", ()),
        (7, ()),
        ([1, None, "a"], ("a",)),
    ],
)
def test_names_in_any_shape(value: Any, names: tuple[str, ...]) -> None:
    assert names_in(value) == names


def both() -> MappingLora:
    return MappingLora({"a": 2.0, "b": 3.0})


@pytest.mark.parametrize(
    "told",
    [
        {"peft_config": {"a": object(), "b": object()}},
        {"peft_config": config_with(adapters={"a": 1, "b": 2})},
        {"peft_config": config_with(adapter_names=["a", "b"])},
        {"adapters": ["a", "b"]},
        {"adapter_names": lambda: ("a", "b")},
        {"active_adapters": ["a", "b"]},
        {"active_adapter": ["a", "b"]},
        {"active_adapter": lambda: ["a", "b"]},
        {},
    ],
    ids=str,
)
def test_the_register_knows_the_adapters_however_they_are_told(told: dict[str, Any]) -> None:
    registry = ScaleRegistry.attach(Wrapped(both(), **told))
    assert registry.adapters == ("a", "b")
    assert [target.base for target in registry.targets("b")] == [3.0]


@pytest.mark.parametrize("kind", [ByMethod, ByProperty])
def test_names_by_method_and_by_property(kind: type[Wrapped]) -> None:
    model = kind(both())
    assert adapter_names(model) == active_names(model) == ("a", "b")
    assert ScaleRegistry.attach(model).active == ("a", "b")


def test_a_string_is_one_name_and_not_its_letters() -> None:
    registry = ScaleRegistry.attach(Wrapped(MappingLora({"ab": 1.0}), active_adapter="ab"))
    assert registry.adapters == registry.active == ("ab",)


def test_a_method_that_raises_for_want_of_adapters_tells_none() -> None:
    assert adapter_names(Unloaded(nn.Identity())) == ()


def test_a_wrapper_around_the_model_is_looked_through() -> None:
    inside = Wrapped(both(), peft_config={"a": 1, "b": 2}, active_adapter="b")
    registry = ScaleRegistry.attach(nn.Sequential(inside))
    assert registry.adapters == ("a", "b")
    assert registry.active == ("b",)


def test_one_config_and_no_name_is_the_unnamed_adapter() -> None:
    registry = ScaleRegistry.attach(Wrapped(ScalarLora(4.0), peft_config=config_with(r=8)))
    assert registry.adapters == ("default",)
