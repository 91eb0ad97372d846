"""The ground floor: immutable values that refuse nonsense, and imports without torch."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import FrozenInstanceError
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

import intrinsic
from intrinsic import errors
from intrinsic.card import AdapterCard
from intrinsic.errors import AdapterNotFoundError, ConfigError, EventError, MixtureError
from intrinsic.events import EventContext, InjectionChannel, MemoryEvent, MemoryVector
from intrinsic.mixture import BASE, Mixture
from intrinsic.selection import Selection

WEIGHTS = st.dictionaries(st.text(min_size=1, max_size=5), st.floats(-9, 9), max_size=5)


def test_channels_have_the_values_of_their_names() -> None:
    assert [c.value for c in InjectionChannel] == [c.name.lower() for c in InjectionChannel]
    assert "dynamic_lora" in list(InjectionChannel)


def test_an_event_is_immutable_and_orders_its_texts_by_relevance() -> None:
    weak = MemoryVector("weak", "second", relevance_score=0.5)
    strong = MemoryVector("strong", "first", relevance_score=0.4, injection_strength=2.0)
    event = MemoryEvent(InjectionChannel.DYNAMIC_LORA, [weak, strong], metadata={"k": 1})  # type: ignore[arg-type]
    assert event.text == "first\nsecond"
    assert event.vectors == (weak, strong)
    assert event.time.tzinfo is UTC
    assert event.id != MemoryEvent(InjectionChannel.DYNAMIC_LORA).id
    with pytest.raises(FrozenInstanceError):
        event.id = "x"  # type: ignore[misc]
    with pytest.raises(TypeError):
        event.metadata["k"] = 2  # type: ignore[index]


def test_a_text_makes_an_event_and_a_parent_is_kept() -> None:
    event = MemoryEvent.from_text("hello", session_id="s", request_id="r", metadata={"a": 1})
    assert event.context == EventContext("r", "s")
    assert event.text == "hello"
    child = event.with_parent("p")
    assert (child.parent_id, child.id) == ("p", event.id)
    assert child.with_parent("q").parent_id == "p"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"source_text": 5}, "source_text of memory 'm' is int"),
        ({"relevance_score": float("nan")}, "relevance_score"),
        ({"injection_strength": float("inf")}, "injection_strength"),
        ({"decay_factor": 1.5}, r"must lie in \[0, 1\]"),
    ],
)
def test_a_memory_that_makes_no_sense_is_refused(fields: dict[str, object], words: str) -> None:
    with pytest.raises(EventError, match=words):
        MemoryVector(**({"memory_id": "m", "source_text": "t"} | fields))  # type: ignore[arg-type]


def test_an_unknown_channel_is_refused_with_the_known_ones() -> None:
    with pytest.raises(EventError, match="unknown channel 'lora'; known: logit_bias"):
        MemoryEvent("lora")  # type: ignore[arg-type]


@given(WEIGHTS)
def test_a_mixture_is_its_content_in_any_order_without_zeros(weights: dict[str, float]) -> None:
    mixture = Mixture.of(weights)
    again = Mixture.of(list(reversed(weights.items())))
    assert mixture == again
    assert hash(mixture) == hash(again)
    assert mixture.id == again.id
    assert dict(mixture.entries) == {k: w for k, w in weights.items() if w != 0.0}
    assert bool(mixture) == any(weights.values())


@given(WEIGHTS, WEIGHTS)
def test_mixtures_of_other_content_have_other_ids(
    first: dict[str, float], second: dict[str, float]
) -> None:
    a, b = Mixture.of(first), Mixture.of(second)
    assert (a.id == b.id) == (a == b)


def test_mixtures_refuse_nonsense() -> None:
    assert not BASE
    with pytest.raises(MixtureError, match="must be a finite number"):
        Mixture.of({"a": float("nan")})
    with pytest.raises(MixtureError, match="named twice"):
        Mixture.of([("a", 1.0), ("a", 2.0)])


def test_selections_refuse_nonsense() -> None:
    with pytest.raises(MixtureError, match=r"confidence of adapter 'a' is 1\.5"):
        Selection("a", 1.5)
    with pytest.raises(MixtureError, match="weight of adapter 'a' is inf"):
        Selection("a", 1.0, float("inf"))


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "a\nb"},
        {"name": "a@1"},
        {"version": 1},
        {"version": "1@2"},
        {"version": "9" * 65},
        {"examples": "x"},
        {"examples": None},
        {"keywords": [1]},
        {"description": "\ud800"},
    ],
)
def test_cards_refuse_nonsense(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        AdapterCard(**({"name": "a"} | fields))  # type: ignore[arg-type]


def test_unknown_adapters_are_named_with_the_known_ones() -> None:
    error = AdapterNotFoundError.of("sqll", ["math", "sql"])
    assert str(error) == (
        "unknown adapter 'sqll'; did you mean 'sql'?; known: math, sql; "
        "list them with 'intrinsic adapters list'"
    )


def test_every_error_is_in_the_tree_that_its_file_draws() -> None:
    classes = [
        c
        for _, c in inspect.getmembers(errors, inspect.isclass)
        if issubclass(c, errors.IntrinsicError)
    ]
    assert sorted(c.__name__ for c in classes) == sorted(errors.__all__)
    for error in classes:
        assert error.__name__ in (errors.__doc__ or "")
        assert (error.__doc__ or "").startswith(("Raised ", "Base "))


def test_all_public_names_can_be_used_and_no_others_are_offered() -> None:
    assert sorted(intrinsic.__all__) == sorted(intrinsic._HOMES) == dir(intrinsic)
    for name in intrinsic.__all__:
        assert getattr(intrinsic, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        intrinsic.nothing  # noqa: B018


def test_importing_the_package_the_bus_and_the_plugins_imports_no_torch() -> None:
    code = (
        "import sys, intrinsic, intrinsic.bus, intrinsic.plugins, intrinsic.cli;"
        "import intrinsic.backends;"
        "intrinsic.MemoryBus, intrinsic.PluginManager.with_builtins();"
        "print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
