"""The default router: meaning and words together, words alone where the encoder fails."""

from __future__ import annotations

import logging
from collections.abc import Sequence, Set

from intrinsic.card import AdapterCard
from intrinsic.errors import EncoderError
from intrinsic.routing.card_router import CardRouter
from intrinsic.routing.decision import Ranking
from intrinsic.routing.embedding import rank_by_meaning
from intrinsic.routing.guard import EncoderGuard
from intrinsic.routing.index import CandidateView, CardIndex
from intrinsic.routing.keyword import rank_by_words
from intrinsic.routing.meaning import MeaningIndex
from intrinsic.routing.options import RouterOptions
from intrinsic.routing.question import Question
from intrinsic.routing.router import Embedder

_log = logging.getLogger(__name__)


class HybridRouter(CardRouter):
    """Orders candidates by a head over the vectors, nearness and BM25 (see `Evidence`).

    Never fails for its encoder: without one, or while it fails, it routes by words, says so in
    the reasons and in `degraded`, and logs a warning when that begins.
    """

    name = "hybrid"

    def __init__(
        self,
        embedder: Embedder | None,
        *,
        options: RouterOptions | None = None,
        index: CardIndex | None = None,
    ) -> None:
        super().__init__(options=options, index=index)
        self.meaning: MeaningIndex | None = None
        if embedder is not None:
            self.meaning = MeaningIndex(EncoderGuard(embedder, self.options))
        self.degraded = ""

    async def warm_up(self, candidates: Sequence[AdapterCard] = ()) -> None:
        """Load the encoder and embed the cards of `candidates`; a failure is only logged."""
        view = await self._view(tuple(candidates))
        if self.meaning is None:
            self._note("there is no encoder")
            return
        try:
            await self.meaning.prepare(view)
        except EncoderError as error:
            self._note(f"the encoder failed: {error}")
        else:
            self._note("")

    async def _ranking(self, question: Question, view: CandidateView, out: Set[int]) -> Ranking:
        if self.meaning is None:
            why = "there is no encoder"
        else:
            try:
                dense, vector = await self.meaning.embed(question, view)
            except EncoderError as error:
                why = f"the encoder failed: {error}"
            else:
                self._note("")
                return await rank_by_meaning(
                    question,
                    view,
                    dense,
                    vector,
                    bm25_weight=self.options.bm25_weight,
                    calibration=self.options.calibration,
                )
        self._note(why)
        return await rank_by_words(question, view, note=f"by words alone: {why}")

    def _note(self, why: str) -> None:
        if why and not self.degraded:
            _log.warning("routing by words alone: %s", why)
        elif self.degraded and not why:
            _log.info("routing by meaning and words again")
        self.degraded = why
