"""What tells queries for the trained tasks from nonsense: one direction among the embeddings.

Similarity counts every word alike. A direction that is fitted learns which of them say something:
"sell half of my shares" shares a word with "swap the halves", and has three that no task knows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from intrinsic.errors import HypernetError
from intrinsic.hypernet.unit_rows import unit_rows
from intrinsic.routing.head import Texts, fit, units


@dataclass(frozen=True, eq=False)
class Probe:
    """`direction · q + offset`, the log-odds that a query of length 1 is no nonsense.

    Below `threshold` it is refused. Shape: direction `(d,)`. Raises `HypernetError` for values
    that are not finite.
    """

    direction: torch.Tensor
    offset: float
    threshold: float = 0.0

    def __post_init__(self) -> None:
        numbers = torch.tensor([self.offset, self.threshold])
        if self.direction.dim() != 1 or not self.direction.numel():
            raise HypernetError(
                f"the probe's direction has the shape {tuple(self.direction.shape)}; it must be "
                "(d,)"
            )
        if not (torch.isfinite(self.direction).all() and torch.isfinite(numbers).all()):
            raise HypernetError("the probe holds NaN or infinite values; calibrate the gate again")

    def log_odds(self, queries: torch.Tensor) -> torch.Tensor:
        """Log-odds of queries `(n, d)`, of any length: `(n,)`."""
        return unit_rows(queries, "embedding") @ self.direction + self.offset

    def at(self, threshold: float) -> Probe:
        """The same with another threshold."""
        return replace(self, threshold=threshold)


def fit_probe(good: torch.Tensor, nonsense: torch.Tensor) -> Probe:
    """Logistic regression, as routing fits it, of good queries `(n, d)` against nonsense `(m, d)`.

    Both kinds count the same together, however many there are of each.
    """
    rows = [unit_rows(good, "good").numpy(), unit_rows(nonsense, "nonsense").numpy()]
    vectors = np.concatenate(rows)
    owners = np.repeat([0, 1], [len(part) for part in rows])
    centroids = units(np.stack([part.mean(0) for part in rows]))
    texts = Texts(vectors, owners, np.ones(len(vectors), np.float32), rows=2)
    head = fit(texts, centroids)
    return Probe(torch.from_numpy(head.W[0] - head.W[1]), float(head.b[0] - head.b[1]))
