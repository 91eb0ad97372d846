"""Candidates judged by log-likelihood: which label does the model give after the query?

    p(i | query) = softmax_i((log p(labelᵢ | cards, query) - log priorᵢ) / temperature)

over the candidates' labels and an answer for 'none of them'. The prior is what the model gives a
label after queries that say nothing: contextual calibration, Zhao et al., "Calibrate Before Use",
2021. Without it the shortest, most common or last named label wins.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from intrinsic.errors import BackendError, CapabilityError, RoutingError
from intrinsic.routing.card_lines import card_lines, one_line
from intrinsic.routing.judge import Candidate, Judgement, Scorer
from intrinsic.routing.llm_options import LLMOptions
from intrinsic.routing.recent import Recent

Floats = npt.NDArray[np.float64]

CONTENT_FREE = ("N/A", "[MASK]", "")
"""Queries that say nothing; those of the paper."""

_QUERY_SHARE = 0.4  # of a prompt's characters
_TRIES = 4


class LikelihoodJudge:
    """Asks a scorer, in one prompt, about all candidates; the same call gives the same answer.

    Priors are kept by the set of cards. A prompt that the model finds too long (a text of many
    tokens per character, a short context) is asked again at half the length, three times.
    """

    def __init__(self, scorer: Scorer, options: LLMOptions | None = None) -> None:
        self.options = options or LLMOptions()
        self._scorer = scorer
        self._kept: Recent[tuple[str, tuple[str, ...]], Floats] = Recent(
            self.options.cached_priors * len(CONTENT_FREE)
        )

    async def judge(self, query: str, candidates: Sequence[Candidate]) -> Judgement:
        """Return calibrated probabilities. Raises `RoutingError` for a scorer that fails."""
        answers = _answers(candidates)
        chars = self.options.max_prompt_chars
        for _ in range(_TRIES - 1):
            try:
                return await self._judge(query, candidates, answers, chars)
            except _RefusedError:
                chars //= 2
        return await self._judge(query, candidates, answers, chars)

    async def warm_up(self, candidates: Sequence[Candidate]) -> None:
        """Score now what is kept of a set of candidates. Raises `RoutingError`."""
        await self.judge(CONTENT_FREE[0], candidates)

    async def _judge(
        self, query: str, candidates: Sequence[Candidate], answers: tuple[str, ...], chars: int
    ) -> Judgement:
        prior = await self._prior(candidates, answers, chars)
        asked = await self._ask(self._prompt(query, candidates, answers, chars), answers)
        gains = asked - prior
        gains -= gains[-1]
        found = _softmax(gains / self.options.temperature)
        return Judgement(
            tuple(float(value) for value in found[:-1]),
            tuple(
                f"the model prefers it to none of them by {gain:+.1f} nats" for gain in gains[:-1]
            ),
        )

    async def _prior(
        self, candidates: Sequence[Candidate], answers: tuple[str, ...], chars: int
    ) -> Floats:
        """Mean probability of each answer after queries that say nothing, as a logarithm.

        What was scored before a deadline is kept, so that the next call goes on from there.
        """
        found: list[Floats] = []
        for text in CONTENT_FREE:
            prompt = self._prompt(text, candidates, answers, chars)
            scores = self._kept.get((prompt, answers))
            if scores is None:
                scores = await self._ask(prompt, answers)
                self._kept.put((prompt, answers), scores)
            found.append(_softmax(scores))
        tiny = np.finfo(np.float64).tiny
        return np.asarray(np.log(np.mean(found, axis=0).clip(tiny)), np.float64)

    async def _ask(self, prompt: str, answers: tuple[str, ...]) -> Floats:
        try:
            scores = await self._scorer.score(prompt, answers)
            found = np.array([score.log_likelihood for score in scores], np.float64)
        except CapabilityError as error:
            raise RoutingError(f"the model cannot score answers: {error}") from error
        except BackendError as error:
            raise _RefusedError(f"the model refused the prompt: {error}") from error
        except Exception as error:  # a scorer may be anybody's
            raise RoutingError(
                f"scoring the candidates failed: {type(error).__name__}: {error}"
            ) from error
        if found.shape != (len(answers),) or not np.isfinite(found).all():
            raise RoutingError(
                f"the scorer gave {found.tolist()!r:.80} for {len(answers)} answers; it must give "
                "one finite log-likelihood each"
            )
        return found

    def _prompt(
        self, query: str, candidates: Sequence[Candidate], answers: tuple[str, ...], chars: int
    ) -> str:
        room = int(chars * _QUERY_SHARE)
        lines = card_lines(candidates, examples=self.options.max_examples, max_chars=chars - room)
        return "\n".join(
            (
                "Which one should answer the question?",
                *(f"{one.label}: {line}" for one, line in zip(candidates, lines, strict=True)),
                f"{answers[-1]}: anything else",
                f"Question: {one_line(query, room)}",
                "Answer with one name.\n",
            )
        )


class _RefusedError(RoutingError):
    """Raised when the model refused a prompt, for instance as too long."""


def _answers(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """The labels, and last what none of them is called."""
    labels = tuple(candidate.label for candidate in candidates)
    none = "none"
    while none in labels:
        none += " of them"
    return (*labels, none)


def _softmax(values: Floats) -> Floats:
    raised = np.exp(values - values.max())
    return np.asarray(raised / raised.sum(), np.float64)
