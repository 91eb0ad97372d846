"""The gate: what it says, and what it refuses to load."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intrinsic.errors import ConfigError
from intrinsic.routing.gate import Gate, expanded, load_gate
from intrinsic.routing.gate_features import MEANING_FEATURES, WORD_FEATURES

FEATURES = {"meaning": (*WORD_FEATURES, *MEANING_FEATURES), "words": WORD_FEATURES}


@pytest.mark.parametrize("name", FEATURES)
def test_the_packaged_gate_reads_what_the_routers_give(name: str) -> None:
    gate = load_gate(name)
    assert gate.features == FEATURES[name]
    assert load_gate(name) is gate


@given(st.lists(st.floats(-1e6, 1e6), min_size=18, max_size=18))
def test_any_evidence_gives_a_probability(values: list[float]) -> None:
    (found,) = load_gate("meaning").probabilities(np.array([values]))
    assert 0.0 <= found <= 1.0


def test_beyond_what_was_seen_nothing_changes() -> None:
    gate = load_gate("words")
    far = gate.probabilities(np.stack([gate.high, gate.high + 100.0]))
    assert far[0] == far[1]


def test_the_terms_are_features_and_products_of_two() -> None:
    np.testing.assert_array_equal(expanded(np.array([[2.0, 3.0]])), [[2.0, 3.0, 4.0, 6.0, 9.0]])
    gate = Gate(("x",), np.array([1.0, 2.0]), 0.5, np.array([-9.0]), np.array([9.0]))
    np.testing.assert_allclose(
        gate.probabilities(np.array([[0.0], [-0.5]])), [1 / (1 + np.exp(-0.5))] * 2
    )


def test_a_gate_survives_its_file(tmp_path: Path) -> None:
    gate = load_gate("meaning")
    file = tmp_path / "gate.json"
    file.write_text(json.dumps({"gates": {"mine": gate.as_json()}}), encoding="utf-8")
    again = load_gate("mine", file)
    rows = np.random.default_rng(0).uniform(gate.low, gate.high, (20, len(gate.features)))
    np.testing.assert_array_equal(again.probabilities(rows), gate.probabilities(rows))
    with pytest.raises(ConfigError, match="has no gate 'yours'; it has: mine"):
        load_gate("yours", file)


def sound() -> dict[str, object]:
    return {
        "features": ["x"],
        "coefficients": [1.0, 0.0],
        "intercept": 0.0,
        "low": [0.0],
        "high": [1.0],
    }


@pytest.mark.parametrize(
    "change",
    [
        {"coefficients": [1.0]},
        {"low": [0.0, 1.0]},
        {"intercept": float("nan")},
        {"high": ["much"]},
        {"features": None},
    ],
)
def test_an_unsound_gate_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="gate"):
        Gate.from_json({**sound(), **change})
    assert Gate.from_json(sound()).features == ("x",)


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_file_that_is_no_gate_file_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "gate.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"gate\.json is no gate file"):
        load_gate("words", file)
