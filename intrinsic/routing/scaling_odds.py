"""Logistic models of a few columns, and Platt's scaling of log-odds by one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LIMIT = 12.0
"""Log-odds are read no further out than this."""


def logistic(
    x: Floats,
    right: npt.NDArray[np.bool_],
    weights: Floats,
    penalty: Floats,
    start: Floats | None = None,
) -> Floats:
    """Return the coefficients of a weighted logistic model, by Newton's method.

    Shapes: x `(queries, columns)`, right and weights `(queries,)`, penalty, start and the result
    `(columns,)`. `penalty` is the ridge that draws each coefficient towards `start`, or 0.
    """
    origin = np.zeros(x.shape[1]) if start is None else start
    found = origin.copy()
    for _ in range(100):
        p = 1.0 / (1.0 + np.exp(-x @ found))
        gradient = x.T @ (weights * (p - right)) + penalty * (found - origin)
        hessian = (x * (weights * p * (1.0 - p))[:, None]).T @ x + np.diag(penalty)
        step = np.linalg.solve(hessian, gradient)
        length = float(np.abs(step).max())
        found -= step / max(1.0, length)
        if length < 1e-8:
            break
    return found


def scaling(
    odds: Floats, right: npt.NDArray[np.bool_], weights: Floats, *, ridge: float = 0.0
) -> tuple[float, float]:
    """Return slope a and shift b of `p = σ(a · odds + b)`.

    Shapes `(queries,)`. `ridge` draws towards a = 1 and b = 0, as strongly as so many queries
    would (Platt 1999, with a prior).
    """
    x = np.column_stack([np.clip(odds, -LIMIT, LIMIT), np.ones(len(odds))])
    penalty = np.full(2, max(ridge, 1e-6))
    slope, shift = logistic(x, right, weights, penalty, np.array([1.0, 0.0]))
    return float(slope), float(shift)


def log_odds(p: Floats) -> Floats:
    """Return `log(p / (1 - p))`, no further out than `LIMIT`."""
    inside = np.clip(p, 1.0 / (1.0 + np.exp(LIMIT)), 1.0 / (1.0 + np.exp(-LIMIT)))
    odds: Floats = np.log(inside / (1.0 - inside))
    return odds
