"""Scoring for a router: on the base model, whatever the manager has on it."""

from __future__ import annotations

from collections.abc import Sequence

from intrinsic.backends import AnswerScore, Capability
from intrinsic.manager import AdapterManager
from intrinsic.mixture import BASE


class BaseScorer:
    """Scores as a request for the base model does, in the manager's order.

    It changes no adapter and no active mixture. While a mixture is written into the weights it
    waits for the requests under it to end, and has the base weights copied back.
    """

    def __init__(self, manager: AdapterManager) -> None:
        self._manager = manager

    @classmethod
    def of(cls, manager: AdapterManager) -> BaseScorer | None:
        """Return a scorer, or None where the manager's backend cannot score."""
        return cls(manager) if manager.backend.supports(Capability.SCORE) else None

    async def score(self, prompt: str, answers: Sequence[str]) -> list[AnswerScore]:
        """Return the log-likelihoods of answers, in the order given."""
        async with self._manager.lease(BASE) as lease:
            return await lease.score(prompt, answers)
