"""The seams of asking a model who fits: what scores answers, and what judges candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from intrinsic.card import AdapterCard


class LogLikelihood(Protocol):
    """What a model thinks of one answer."""

    @property
    def log_likelihood(self) -> float:
        """`log p(answer | prompt)` in nats, summed over the answer's tokens."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """A model that says how likely given answers are; every `ModelBackend` that can score is one.

    It must score on the base model, whatever adapters are in force elsewhere.
    """

    async def score(self, prompt: str, answers: Sequence[str]) -> Sequence[LogLikelihood]:
        """Return one log-likelihood per answer, in the order of the answers."""
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """An adapter as a model is asked about it: what it is called, and its card."""

    label: str
    card: AdapterCard


@dataclass(frozen=True, slots=True)
class Judgement:
    """Per candidate the probability that it is the one to answer, and the reason in words.

    What the probabilities leave of 1 is that none fits.
    """

    confidences: tuple[float, ...]
    reasons: tuple[str, ...]


@runtime_checkable
class Judge(Protocol):
    """Says which of a few candidates should answer a query, or none."""

    async def judge(self, query: str, candidates: Sequence[Candidate]) -> Judgement:
        """Judge candidates, of which there is at least one. Raises `RoutingError`."""
        ...
