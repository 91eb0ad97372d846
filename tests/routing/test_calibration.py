"""Confidences fitted to labelled queries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from intrinsic.errors import ConfigError
from intrinsic.routing import KeywordRouter, RouterOptions
from intrinsic.routing.calibration import LEAST_QUERIES, Calibration, fit_calibration
from intrinsic.routing.evaluation import Answer, calibration_error
from intrinsic.routing.scaling_odds import log_odds, scaling
from tests.bus.backends import both_backends
from tests.routing.fakes import CARDS


def _answers(n: int, *, slope: float, shift: float, seed: int = 0) -> list[Answer]:
    """Answers of a router whose confidence p means σ(slope · logit p + shift)."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.02, 0.98, n)
    true = Calibration(slope, shift).applied(p)
    return [
        Answer("q", "a" if rng.random() < chance else None, ("a",), (float(said),))
        for said, chance in zip(p, true, strict=True)
    ]


def test_the_slope_and_the_shift_are_found_again() -> None:
    found = fit_calibration(_answers(20_000, slope=0.5, shift=1.0))
    assert found.slope == pytest.approx(0.5, abs=0.05)
    assert found.shift == pytest.approx(1.0, abs=0.05)
    assert found.queries == 20_000


def test_it_lowers_the_calibration_error_on_other_queries() -> None:
    found = fit_calibration(_answers(400, slope=0.5, shift=1.0))
    others = _answers(4000, slope=0.5, shift=1.0, seed=1)
    p = np.array([one.confidence for one in others])
    right = np.array([one.right == "a" for one in others])
    assert calibration_error(found.applied(p), right) < calibration_error(p, right) / 3


def test_few_queries_change_little() -> None:
    few = fit_calibration(_answers(LEAST_QUERIES, slope=0.1, shift=2.0, seed=3))
    many = fit_calibration(_answers(5000, slope=0.1, shift=2.0, seed=3))
    assert few.slope > many.slope


def test_certain_answers_stay_certain_and_the_order_is_kept() -> None:
    p = np.array([0.0, 1e-9, 0.2, 0.9, 1.0 - 1e-12, 1.0])
    found = Calibration(0.3, -2.0).applied(p)
    assert (found[0], found[-1]) == (0.0, 1.0)
    assert (np.diff(found) >= 0).all()


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(ConfigError, match=f"there are 3 .* needs {LEAST_QUERIES}"):
        fit_calibration(_answers(3, slope=1, shift=0))
    right = [Answer("q", "a", ("a",), (0.6,))] * 30
    with pytest.raises(ConfigError, match="all 30 first answers are right"):
        fit_calibration(right)
    upside_down = [
        Answer("q", "a" if n % 2 else None, ("a",), (0.01 + 0.98 * (n % 2 == 0),))
        for n in range(200)
    ]
    with pytest.raises(ConfigError, match=r"no more often right .* check the labels"):
        fit_calibration(upside_down)
    wrong = [Answer("q", "b", ("a",), (0.6,))] * 30
    with pytest.raises(ConfigError, match=r"30 first answers are wrong.*; check the labels"):
        fit_calibration(wrong)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it cannot be read as JSON"),
        ("[" * 100_000, "it cannot be read as JSON"),
        ("[]", "it holds no object"),
        ("{}", "slope is missing"),
        ('{"slope": "1.5", "shift": 1, "queries": 1}', "slope must be a number"),
        ('{"slope": 1, "shift": true, "queries": 1}', "shift must be a number"),
        ('{"slope": 1, "shift": NaN, "queries": 1}', "slope and shift finite"),
        ('{"slope": -1, "shift": 0, "queries": 1}', "slope must be above 0"),
        (f'{{"slope": 1{"0" * 400}, "shift": 0, "queries": 1}}', "slope and shift finite"),
        ('{"slope": 1, "shift": 0, "queries": -1}', "whole number, 0 or more"),
        ('{"slope": 1, "shift": 0, "queries": 1.5}', "whole number, 0 or more"),
        ('{"slope": 1, "shift": 0, "queries": Infinity}', "whole number, 0 or more"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "calibration.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"calibration\.json is no calibration, .*{why}.*; name"):
        Calibration.load(file)
    with pytest.raises(ConfigError, match="is no calibration, it cannot be read: No such"):
        Calibration.load(tmp_path / "none.json")
    with pytest.raises(ConfigError, match="-1 queries is not valid"):
        Calibration(1.0, 0.0, -1)


def test_what_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "c.json"
    file.write_text("old")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="No space left"):
        Calibration(0.75, -0.25, 300).save(file)
    assert [path.name for path in tmp_path.iterdir()] == ["c.json"]
    assert file.read_text() == "old"


def test_it_survives_its_file(tmp_path: Path) -> None:
    made = Calibration(0.75, -0.25, 300)
    made.save(tmp_path / "c.json")
    assert Calibration.load(tmp_path / "c.json") == made


def test_the_ridge_draws_to_the_identity() -> None:
    odds, right = log_odds(np.array([0.9] * 5)), np.array([False] * 5)
    slope, shift = scaling(odds, right, np.ones(5), ridge=1e6)
    assert slope == pytest.approx(1.0, abs=1e-3)
    assert shift == pytest.approx(0.0, abs=1e-3)


@both_backends
async def test_a_router_with_a_calibration_decides_by_it() -> None:
    query = "how is asthma treated"
    (plain, *_) = await KeywordRouter().rank(query, candidates=CARDS)
    strict = KeywordRouter(options=RouterOptions(calibration=Calibration(1.0, -20.0)))
    (first, *_) = await strict.rank(query, candidates=CARDS)
    assert first.adapter == plain.adapter
    expected = Calibration(1.0, -20.0).applied(np.array([plain.confidence]))[0]
    assert first.confidence == pytest.approx(expected, abs=1e-6)
    assert await strict.route(query, candidates=CARDS) == []
