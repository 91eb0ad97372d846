"""Whatever finite vectors an encoder gives, a router has unit vectors of the same direction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from intrinsic.errors import EncoderError
from intrinsic.routing.pieces import unit_rows

SIZES = [
    *[(np.float16, 10.0**power) for power in (-4, 0, 4)],
    *[(np.float32, 10.0**power) for power in (-40, -30, -5, 0, 5, 19, 30, 38)],
    *[(np.float64, 10.0**power) for power in (-300, -60, -45, 0, 39, 300)],
]


@pytest.mark.parametrize(("kind", "size"), SIZES)
@pytest.mark.parametrize("rows", [1, 3])
def test_of_any_length(kind: Any, size: float, rows: int) -> None:
    way = np.random.default_rng(4).uniform(-1, 1, size=(rows, 16))
    given = (way * size).astype(kind)
    before = given.copy()
    found = unit_rows(given, rows, "e")
    expected = way / np.linalg.norm(way, axis=1, keepdims=True)
    rough = size in (1e-40, 1e-4)  # the numbers given have few digits themselves
    np.testing.assert_allclose(found, expected, atol=1e-3 if rough or kind is np.float16 else 1e-6)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(given, before)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("rows", [1, 3])
def test_what_is_not_finite_is_refused(bad: float, kind: Any, rows: int) -> None:
    given = np.full((rows, 4), 0.5, kind)
    given[-1, 2] = bad
    with pytest.raises(EncoderError, match="not finite"):
        unit_rows(given, rows, "e")


def test_zeros_stay() -> None:
    for rows in (1, 3):
        assert not unit_rows(np.zeros((rows, 4)), rows, "e").any()
