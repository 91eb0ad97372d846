"""From evidence to a probability: a small logistic model whose numbers lie in `gate.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from intrinsic.errors import ConfigError

Floats = npt.NDArray[np.float64]

_MOST = 30.0  # log-odds, beyond which a probability is 0 or 1


@dataclass(frozen=True, eq=False)
class Gate:
    """`p = 1 / (1 + exp(-(b + Σ wᵢ xᵢ + Σ wᵢⱼ xᵢ xⱼ)))`, x clipped to the range seen in fitting.

    `coefficients` belong to the terms of `expanded`, in that order.
    """

    features: tuple[str, ...]
    coefficients: Floats  # (n (n + 3) / 2,) for n features
    intercept: float
    low: Floats  # (features,) the least value seen in fitting
    high: Floats  # (features,) the greatest

    def probabilities(self, rows: Floats) -> Floats:
        """Return a probability per row of features: `(rows, features)` to `(rows,)`."""
        odds = np.minimum(np.maximum(self.log_odds(rows), -_MOST), _MOST)
        found: Floats = 1.0 / (1.0 + np.exp(-odds))
        return found

    def log_odds(self, rows: Floats) -> Floats:
        """Return the logarithm of p / (1 - p) per row of features."""
        x = np.minimum(np.maximum(rows, self.low), self.high)
        found: Floats = x @ self._linear + np.add.reduce((x @ self._square) * x, 1) + self.intercept
        return found

    @cached_property
    def _linear(self) -> Floats:
        return self.coefficients[: len(self.features)]

    @cached_property
    def _square(self) -> Floats:
        """The coefficients of the products as a triangle."""
        n = len(self.features)
        square = np.zeros((n, n))
        square[_pairs(n)] = self.coefficients[n:]
        return square

    def as_json(self) -> dict[str, Any]:
        """Return the gate as plain values, six significant digits each."""
        return {
            "features": list(self.features),
            "coefficients": _rounded(self.coefficients),
            "intercept": _rounded(np.array([self.intercept]))[0],
            "low": _rounded(self.low),
            "high": _rounded(self.high),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Gate:
        """Build a gate from what `as_json` returns; raise `ConfigError` if it does not fit."""
        try:
            gate = cls(
                features=tuple(values["features"]),
                coefficients=np.asarray(values["coefficients"], np.float64),
                intercept=float(values["intercept"]),
                low=np.asarray(values["low"], np.float64),
                high=np.asarray(values["high"], np.float64),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"the gate's values are not complete: {error!r}") from error
        columns = (gate.coefficients, gate.low, gate.high)
        numbers = np.concatenate([*columns, [gate.intercept]])
        n = len(gate.features)
        fits = [column.shape for column in columns] == [(n * (n + 3) // 2,), (n,), (n,)]
        if not fits or not np.isfinite(numbers).all():
            raise ConfigError(
                f"a gate of {len(gate.features)} features does not fit its numbers; "
                "write the file anew with 'python -m intrinsic.training.fit_gate'"
            )
        return gate


def expanded(rows: Floats) -> Floats:
    """Return the features and the products of every two, each with itself too."""
    one, other = _pairs(rows.shape[1])
    return np.hstack([rows, rows[:, one] * rows[:, other]])


@cache
def _pairs(n: int) -> tuple[npt.NDArray[np.intp], ...]:
    return np.triu_indices(n)


def load_gate(name: str, path: Path | None = None) -> Gate:
    """Return the gate `name` ("meaning" or "words") of a file, by default of the packaged one."""
    if path is None:
        return _packaged(name)
    return _named(name, path.read_text(encoding="utf-8"), str(path))


@cache
def _packaged(name: str) -> Gate:
    file = resources.files("intrinsic.routing") / "gate.json"
    return _named(name, file.read_text(encoding="utf-8"), "gate.json")


def _named(name: str, text: str, where: str) -> Gate:
    try:
        gates = json.loads(text)["gates"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ConfigError(f"{where} is no gate file: {error!r}") from error
    if name not in gates:
        raise ConfigError(f"{where} has no gate {name!r}; it has: {', '.join(sorted(gates))}")
    return Gate.from_json(gates[name])


def _rounded(values: Floats) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
