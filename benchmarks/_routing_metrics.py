"""What a router's answers are worth; all figures are shares in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from intrinsic.routing.evaluation import accepted_and_right, calibration_error

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Answers:
    """What a router said to each query: all arrays are `(queries,)`.

    `right` says whether the first candidate is the one that fits (never, where none does),
    `accepted` whether the router's own rule lets it through.
    """

    in_scope: Flags
    right: Flags
    accepted: Flags
    confidence: Floats

    @property
    def top1(self) -> float:
        """The share of in-scope queries whose first candidate is right."""
        return float(self.right[self.in_scope].mean())

    @property
    def e2e(self) -> float:
        """The share of all queries that got the right route or were rightly refused."""
        return float(np.where(self.in_scope, self.right & self.accepted, ~self.accepted).mean())

    @property
    def refused(self) -> float:
        """The share of out-of-scope queries that the router's own rule refuses."""
        return float((~self.accepted[~self.in_scope]).mean())

    @property
    def a95(self) -> float:
        """The share of in-scope queries accepted and right where 95 % of the others are refused."""
        return accepted_and_right(self.confidence, self.right, self.in_scope)

    @property
    def ece(self) -> float:
        """The calibration error of the first confidence against being right."""
        return calibration_error(self.confidence, self.right)

    def resampled(self, rng: np.random.Generator) -> Answers:
        """As many queries drawn with replacement, in-scope and other ones apart."""
        inside, outside = np.flatnonzero(self.in_scope), np.flatnonzero(~self.in_scope)
        at = np.concatenate([rng.choice(inside, len(inside)), rng.choice(outside, len(outside))])
        return Answers(self.in_scope[at], self.right[at], self.accepted[at], self.confidence[at])


def a95_interval(runs: list[Answers], seed: int, draws: int = 300) -> tuple[float, float]:
    """The 95 % interval of the mean `a95` of runs on the same queries (percentile bootstrap)."""
    found = np.array(
        [
            np.mean([run.resampled(np.random.default_rng([seed, draw])).a95 for run in runs])
            for draw in range(draws)
        ]
    )
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)
