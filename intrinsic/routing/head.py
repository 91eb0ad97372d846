"""The linear head of a router: one row per adapter, scored against a query by one product.

In closed form a row is the adapter's centroid, turned away from what all adapters have in common.
Where there are examples enough, logistic regression goes on from there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from intrinsic.routing.router import Vectors

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

MOST_ROWS = 1000
"""Of more adapters than this no regression is fitted: its time grows with their square."""

QUICK = 2_000
"""Texts times rows up to which a head is fitted at once, in less than a tenth of a second."""

_SCALE = 20.0
_FEW = 50.0
_PRIOR = 10.0
_LOSS = 100.0
_ITERATIONS = 60

_LIMITING = threading.Lock()

Floats = npt.NDArray[np.float64]
Owners = npt.NDArray[np.intp]
Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """`score = s (c - m) · (q - m)`, from the cosines `c · q`, which are needed anyway."""

    scale: Floats  # (rows,)
    common: npt.NDArray[np.float32]  # m, (d,)
    offset: Floats  # (rows,) what the row scores at q = 0

    fitted: ClassVar[Literal[False]] = False

    def score(self, query: npt.NDArray[np.float32], cosines: Floats) -> Floats:
        """Return a score per row for a unit vector `(d,)` and its cosines `(rows,)`."""
        return self.scale * (cosines - float(self.common @ query)) + self.offset


@dataclass(frozen=True, eq=False)
class Head:
    """`score = W q + b`, fitted: the softmax of the scores is a probability."""

    W: Vectors  # (rows, d)
    b: npt.NDArray[np.float32]  # (rows,)

    fitted: ClassVar[Literal[True]] = True

    def score(self, query: npt.NDArray[np.float32], cosines: Floats) -> Floats:
        """Return a score per row for a unit vector `(d,)`."""
        return (self.W @ query + self.b).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Texts:
    """What a head is fitted on: unit vectors `(texts, d)`, whose they are, what each counts."""

    vectors: Vectors
    owners: Owners
    weights: Weights
    rows: int


def closed_form(centroids: Vectors) -> ClosedForm:
    """Return the head of unit centroids `(rows, d)`.

    A row is the unit vector of `c - m`, times 20, where m is the mean centroid, shrunk where rows
    are few and their mean says little: by n / (n + 50).
    """
    n = len(centroids)
    common = centroids.mean(0) * np.float32(n / (n + _FEW))
    along = (centroids @ common).astype(np.float64)  # c · m
    square = float(common @ common)
    lengths = np.sqrt(np.maximum(1.0 - 2.0 * along + square, 1e-9))  # |c - m|, as |c| = 1
    scale = _SCALE / lengths
    return ClosedForm(scale, common, scale * (square - along))


def fit(texts: Texts, centroids: Vectors) -> Head:
    """Return a multinomial logistic regression, `-C Σ w log p + ½ |W - 10 (c - m)|²`, C = 100.

    Each row's texts count as much together as those of any other, so that an adapter with many
    examples does not crowd out one with few. Solved by L-BFGS (Liu and Nocedal 1989).
    """
    from scipy.optimize import minimize

    n, d = centroids.shape
    prior = np.float32(_PRIOR) * (centroids - centroids.mean(0))
    x = np.hstack([texts.vectors, np.ones((len(texts.vectors), 1), np.float32)])
    w = texts.weights * _balance(texts)
    at = np.arange(len(x))

    def loss(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        W = flat.reshape(n, d + 1).astype(np.float32)
        logits = x @ W.T
        logits -= logits.max(1, keepdims=True)
        own = logits[at, texts.owners]
        np.exp(logits, out=logits)
        total = logits.sum(1, keepdims=True)
        logits /= total
        logits[at, texts.owners] -= 1.0
        away = W.copy()
        away[:, d] = 0.0
        away[:, :d] -= prior
        value = -_LOSS * float((w * (own - np.log(total[:, 0]))).sum()) + 0.5 * float(
            (away * away).sum()
        )
        gradient = _LOSS * ((w[:, None] * logits).T @ x) + away
        return value, gradient.astype(np.float64).ravel()

    start = np.hstack([prior, np.zeros((n, 1), np.float32)]).astype(np.float64).ravel()
    with _one_thread_each(len(x) * n):
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS})
    solved = found.x.reshape(n, d + 1).astype(np.float32)
    return Head(np.ascontiguousarray(solved[:, :d]), solved[:, d].copy())


@contextmanager
def _one_thread_each(work: int) -> Iterator[None]:
    """Keep each BLAS of the process to one thread, for a fit of so many texts times rows.

    numpy and scipy bring a BLAS each, whose threads wait for work by spinning: in turns on the same
    cores they made a fit ten times slower. One thread each leaves a core to the requests as well.
    The limit is the process's, so one fit at a time sets it and takes it back. A quick fit, which
    a request waits for, waits for no other.
    """
    if not _LIMITING.acquire(blocking=work > QUICK):
        yield
        return
    try:
        with _blas().limit(limits=1, user_api="blas"):
            yield
    finally:
        _LIMITING.release()


@cache
def _blas() -> ThreadpoolController:
    """The process's BLAS libraries; to be asked once scipy's is loaded. Looking takes 10 ms."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def extended(
    old: Head, at: npt.NDArray[np.intp], centroids: Vectors, own: npt.NDArray[np.float32]
) -> Head:
    """Return a fitted head's rows for other candidates, until a new one is fitted.

    `at` is the row that each candidate had, -1 where it had none. Such a row comes in closed form,
    as long as the others are in the median, and its offset gives its own texts' mean `own` the
    score that those of the others have in the median.
    """
    new = at < 0
    W, b = old.W[at], old.b[at]
    if not new.any():
        return Head(W, b)
    lengths = np.linalg.norm(W[~new], axis=1)
    W[new] = units(centroids[new] - centroids.mean(0)) * np.median(lengths)
    reached = np.einsum("nd,nd->n", W, own)
    usual = np.median(reached[~new] + b[~new])
    b[new] = usual - reached[new]
    return Head(W, b)


def units(vectors: Vectors) -> Vectors:
    """Return vectors at length 1; zeros stay."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Vectors = vectors / np.maximum(lengths, 1e-9)
    return scaled


def _balance(texts: Texts) -> Weights:
    mass = np.bincount(texts.owners, texts.weights, minlength=texts.rows)
    balance: Weights = (mass.mean() / np.maximum(mass, 1e-9))[texts.owners].astype(np.float32)
    return balance
