"""The embedding router: nearness in meaning, as a text encoder sees it."""

from __future__ import annotations

from collections.abc import Sequence, Set

from intrinsic.card import AdapterCard
from intrinsic.routing.calibration import Calibration
from intrinsic.routing.card_router import CardRouter, off_loop_if_large
from intrinsic.routing.decision import Ranking
from intrinsic.routing.dense import DenseView
from intrinsic.routing.evidence import Evidence
from intrinsic.routing.gate import load_gate
from intrinsic.routing.guard import EncoderGuard
from intrinsic.routing.index import CandidateView, CardIndex
from intrinsic.routing.keyword import rank_by_words
from intrinsic.routing.meaning import MeaningIndex
from intrinsic.routing.options import RouterOptions
from intrinsic.routing.question import Question
from intrinsic.routing.router import Embedder
from intrinsic.routing.vector_cache import Vector


class EmbeddingRouter(CardRouter):
    """Orders candidates by meaning alone; raises `EncoderError` when the encoder fails.

    Words still help to judge how sure the answer is.
    """

    name = "embedding"

    def __init__(
        self,
        embedder: Embedder,
        *,
        options: RouterOptions | None = None,
        index: CardIndex | None = None,
    ) -> None:
        super().__init__(options=options, index=index)
        self.meaning = MeaningIndex(EncoderGuard(embedder, self.options))

    async def warm_up(self, candidates: Sequence[AdapterCard] = ()) -> None:
        """Load the encoder and embed the cards of `candidates`; raises `EncoderError`."""
        await self.meaning.prepare(await self._view(tuple(candidates)))

    async def _ranking(self, question: Question, view: CandidateView, out: Set[int]) -> Ranking:
        dense, vector = await self.meaning.embed(question, view)
        calibration = self.options.calibration
        return await rank_by_meaning(
            question, view, dense, vector, bm25_weight=0.0, calibration=calibration
        )


async def rank_by_meaning(
    question: Question,
    view: CandidateView,
    dense: DenseView,
    vector: Vector,
    *,
    bm25_weight: float | None,
    calibration: Calibration | None,
) -> Ranking:
    """Rank by the cosines to `vector` and, as far as `bm25_weight` says, by words.

    A vector of zeros, of a text that an encoder knows nothing of, leaves words alone.
    """
    if not vector.any():
        why = "by words alone: the encoder knows nothing of the text"
        return await rank_by_words(question, view, why)

    def work() -> Ranking:
        evidence = Evidence.of(view, question.text, dense.weigh(vector), bm25_weight=bm25_weight)
        return Ranking(question, evidence, load_gate("meaning"), calibration=calibration)

    return await off_loop_if_large(question.text, view, work)
