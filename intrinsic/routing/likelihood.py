"""Candidates judged by log-likelihood: whose card does the query make likely?

    p(i | query) = softmax_i((log p(answerᵢ | query) - log priorᵢ) / temperature)

over an answer per candidate and one for 'none of them'. The prior is the mean of what the model
gives an answer after queries that say nothing: contextual calibration, Zhao et al., "Calibrate
Before Use", 2021. Without it the shortest or most common answer wins, whatever is asked.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from intrinsic.errors import BackendError, CapabilityError, RoutingError
from intrinsic.routing.answer_forms import AnswerForm, cards_form, names_form
from intrinsic.routing.judge import Candidate, Judgement, Scorer
from intrinsic.routing.llm_options import LLMOptions
from intrinsic.routing.recent import Recent

Floats = npt.NDArray[np.float64]

CONTENT_FREE = ("N/A", "[MASK]", ".")
"""Queries that say nothing; the full stop is for the paper's empty one."""

_FORMS = {"cards": cards_form, "names": names_form}
_TRIES = 4


class LikelihoodJudge:
    """Asks a scorer about all candidates at once; the same call gives the same answer.

    What the priors need is kept. A prompt that the model refuses (too long for it: many tokens per
    character, a short context) is asked again at half the length, three times.
    """

    def __init__(self, scorer: Scorer, options: LLMOptions | None = None) -> None:
        self.options = options or LLMOptions()
        self._scorer = scorer
        self._kept: Recent[tuple[str, str], float] = Recent(
            self.options.cached_priors * len(CONTENT_FREE)
        )

    async def judge(self, query: str, candidates: Sequence[Candidate]) -> Judgement:
        """Return calibrated probabilities. Raises `RoutingError` for a scorer that fails."""
        chars = self.options.max_prompt_chars
        for _ in range(_TRIES - 1):
            try:
                return await self._judge(query, candidates, chars)
            except _RefusedError:
                chars //= 2
        return await self._judge(query, candidates, chars)

    async def warm_up(self, candidates: Sequence[Candidate]) -> None:
        """Score now what is kept of a set of candidates. Raises `RoutingError`."""
        await self.judge(CONTENT_FREE[0], candidates)

    async def _judge(self, query: str, candidates: Sequence[Candidate], chars: int) -> Judgement:
        form = _FORMS[self.options.ask](candidates, self.options.max_examples, chars)
        gains = -await self._prior(form)
        gains += await self._ask(form.prompt(query), form.answers)
        gains -= gains[-1]
        raised = np.exp((gains - gains.max()) / self.options.softmax_temperature)
        found = raised / raised.sum()
        return Judgement(
            tuple(float(found[at]) for at in form.answer_of),
            tuple(
                f"the model prefers it to none of them by {gains[at]:+.1f} nats"
                for at in form.answer_of
            ),
        )

    async def _prior(self, form: AnswerForm) -> Floats:
        """Mean log-likelihood of each answer after queries that say nothing.

        What was scored before a deadline is kept, so that the next call goes on from there.
        """
        total = np.zeros(len(form.answers))
        for text in CONTENT_FREE:
            prompt = form.prompt(text)
            known = {answer: self._kept.get((prompt, answer)) for answer in form.answers}
            missing = tuple(answer for answer, value in known.items() if value is None)
            if missing:
                found = (float(value) for value in await self._ask(prompt, missing))
                for answer, value in zip(missing, found, strict=True):
                    known[answer] = value
                    self._kept.put((prompt, answer), value)
            total += np.array([known[answer] for answer in form.answers], np.float64)
        return total / len(CONTENT_FREE)

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
                f"the scorer gave {found.tolist()!s:.80} for {len(answers)} answers; it must "
                "give one finite log-likelihood each"
            )
        return found


class _RefusedError(RoutingError):
    """Raised when the model refused a prompt, for instance as too long."""
