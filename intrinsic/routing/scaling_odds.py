"""Platt's scaling: a slope and a shift that make log-odds into calibrated probabilities."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LIMIT = 12.0
"""Log-odds are read no further out than this."""


def scaling(
    odds: Floats, right: npt.NDArray[np.bool_], weights: Floats, *, ridge: float = 0.0
) -> tuple[float, float]:
    """Return slope a and shift b of `p = σ(a · odds + b)`, fitted by Newton's method.

    Shapes `(queries,)`. `ridge` draws towards a = 1 and b = 0, as strongly as so many queries
    would (Platt 1999, with a prior).
    """
    x = np.column_stack([np.clip(odds, -LIMIT, LIMIT), np.ones(len(odds))])
    start = np.array([1.0, 0.0])
    found = start.copy()
    penalty = max(ridge, 1e-6)
    for _ in range(100):
        p = 1.0 / (1.0 + np.exp(-x @ found))
        gradient = x.T @ (weights * (p - right)) + penalty * (found - start)
        hessian = (x * (weights * p * (1.0 - p))[:, None]).T @ x + penalty * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        length = float(np.abs(step).max())
        found -= step / max(1.0, length)
        if length < 1e-9:
            break
    return float(found[0]), float(found[1])


def log_odds(p: Floats) -> Floats:
    """Return `log(p / (1 - p))`, no further out than `LIMIT`."""
    inside = np.clip(p, 1.0 / (1.0 + np.exp(LIMIT)), 1.0 / (1.0 + np.exp(-LIMIT)))
    odds: Floats = np.log(inside / (1.0 - inside))
    return odds
