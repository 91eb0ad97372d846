"""Whether a hypernetwork knows enough about a query to answer it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from intrinsic.errors import ConfigError, HypernetError
from intrinsic.hypernet.network import Embedding
from intrinsic.hypernet.probe import Probe
from intrinsic.hypernet.unit_rows import unit_rows


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether weights may be used, the query's score, and the reason in words."""

    admitted: bool
    score: float
    reason: str


class Gate:
    """Refuses what is far from all that was trained on, and weights that are too large.

    `descriptions (m, d)` are embeddings of the training tasks' descriptions; they are brought to
    length 1. A query's score is its mean cosine with the `neighbours` nearest; a `probe` must admit
    it as well, where there is one. `max_relative_norm` bounds `‖ΔW‖ / ‖W‖`; None is no bound.
    `example_share` is the share of its loss that an example must lose, where `least_share` found
    one. Raises `ConfigError`, and `HypernetError` for descriptions that are no finite matrix, and a
    probe of another size.
    """

    def __init__(
        self,
        descriptions: Embedding,
        threshold: float,
        *,
        max_relative_norm: float | None = None,
        neighbours: int = 4,
        probe: Probe | None = None,
        example_share: float | None = None,
    ) -> None:
        if not _is_number(threshold):
            raise ConfigError(f"threshold is {threshold!r}; it must be a finite number")
        bound = max_relative_norm
        if bound is not None and not (_is_number(bound) and bound > 0):
            raise ConfigError(f"max_relative_norm is {bound!r}; it must be above 0, or None")
        if not isinstance(neighbours, int) or neighbours < 1:
            raise ConfigError(f"neighbours is {neighbours!r}; it must be an integer, 1 or more")
        share = example_share
        if share is not None and not (_is_number(share) and 0 <= share < 1):
            raise ConfigError(f"example_share is {share!r}; it must be from 0 to below 1, or None")
        self.descriptions = unit_rows(descriptions, "descriptions")
        self.threshold = float(threshold)
        self.max_relative_norm = bound
        self.neighbours = neighbours
        self.probe = probe
        self.example_share = share
        if probe is not None and len(probe.direction) != self.descriptions.shape[1]:
            raise HypernetError(
                f"the probe has {len(probe.direction)} values, the gate's descriptions have "
                f"{self.descriptions.shape[1]}: calibrate both with one encoder"
            )

    def score(self, embedding: Embedding) -> float:
        """Mean cosine of one embedding `(d,)` with the nearest descriptions.

        Raises `HypernetError` for another size, and for values that are not finite.
        """
        query = torch.as_tensor(embedding)
        return float(mean_of_nearest(query.reshape(1, -1), self.descriptions, self.neighbours)[0])

    def admits(self, embedding: Embedding, relative_norm: float | None = None) -> Verdict:
        """Judge one embedding `(d,)`, and the size of what was generated where it is given.

        One of zeros, as of a query without words, is refused whatever the threshold. Raises as
        `score` does.
        """
        score = self.score(embedding)
        if not torch.as_tensor(embedding).any():
            return Verdict(False, score, "its embedding is zero: it says nothing")
        if score < self.threshold:
            return Verdict(
                False,
                score,
                f"its mean cosine with the {self._nearest} is {score:.3f}, "
                f"below {self.threshold:.3f}",
            )
        if (nonsense := self._reads_as_nonsense(embedding)) is not None:
            return Verdict(False, score, nonsense)
        bound = self.max_relative_norm
        if bound is not None and relative_norm is not None and not relative_norm <= bound:
            return Verdict(
                False,
                score,
                f"the generated change is {relative_norm:.3g} of the weights' size, "
                f"above {bound:.3g}",
            )
        return Verdict(
            True,
            score,
            f"its mean cosine with the {self._nearest} is {score:.3f}, "
            f"at least {self.threshold:.3f}",
        )

    def _reads_as_nonsense(self, embedding: Embedding) -> str | None:
        if self.probe is None:
            return None
        found = float(self.probe.log_odds(torch.as_tensor(embedding).reshape(1, -1))[0])
        if found >= self.probe.threshold:
            return None
        return (
            f"its log-odds against nonsense are {found:.2f}, below {self.probe.threshold:.2f}: "
            "it has too little of what the training descriptions say"
        )

    @property
    def _nearest(self) -> str:
        count = min(self.neighbours, len(self.descriptions))
        return f"{count} nearest training descriptions"


def mean_of_nearest(
    queries: torch.Tensor, descriptions: torch.Tensor, neighbours: int
) -> torch.Tensor:
    """Mean cosine with the nearest rows: queries `(n, d)`, descriptions `(m, d)`, to `(n,)`.

    Rows of descriptions have length 1. Where there are fewer than `neighbours`, all of them count.
    Raises `HypernetError`.
    """
    found = unit_rows(queries, "embedding")
    if found.shape[1] != descriptions.shape[1]:
        raise HypernetError(
            f"the embedding has {found.shape[1]} values, the gate's descriptions have "
            f"{descriptions.shape[1]}: use the encoder that the gate was calibrated for"
        )
    cosines = found @ descriptions.T
    return cosines.topk(min(neighbours, descriptions.shape[0]), dim=1).values.mean(1)


def _is_number(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)  # type: ignore[arg-type]
