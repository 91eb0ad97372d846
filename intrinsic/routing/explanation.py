"""Why a text was routed as it was: what speaks for each candidate, and what the others lacked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from intrinsic.card import AdapterCard
from intrinsic.routing.card_router import CardRouter
from intrinsic.routing.choice import threshold_of
from intrinsic.routing.evidence import Evidence
from intrinsic.routing.options import RouterOptions
from intrinsic.routing.router import RankingRouter, Router
from intrinsic.routing.trial import labels_of
from intrinsic.selection import NO_CONTEXT, RouteContext, Selection


@dataclass(frozen=True, slots=True)
class Parts:
    """What a router that looks at meaning and words found for one candidate.

    `score`, by which candidates are ordered, is what `meaning` and `words` contributed; where
    the router looks at both these are standard deviations from the mean candidate, by their
    weights. What a router does not look at is None.
    """

    score: float
    meaning: float | None
    words: float
    similarity: float | None  # near a cosine
    bm25: float
    nearest: str | None  # an example, or the card's sentence
    cosine: float | None  # to the nearest


@dataclass(frozen=True, slots=True)
class ExplainedCandidate:
    """A candidate, why it is where it is, and what became of it; `weight` is 0 if not chosen."""

    adapter: str
    confidence: float
    weight: float
    reason: str
    outcome: str
    parts: Parts | None  # None for a router of another kind


@dataclass(frozen=True, slots=True)
class Explanation:
    """What was chosen for a text, and every candidate, best first."""

    selections: tuple[Selection, ...]
    candidates: tuple[ExplainedCandidate, ...]


async def explain(
    router: RankingRouter,
    query: str,
    *,
    candidates: Sequence[AdapterCard],
    top_k: int = 1,
    context: RouteContext = NO_CONTEXT,
    decided_by: Router | None = None,
) -> Explanation:
    """Return what spoke for every candidate, and why those that were not chosen were not.

    `decided_by` is what has the last word where that is not `router` alone, as with plugins.
    Raises what the router raises, and `ConfigError` for a `top_k` below 1.
    """
    context = replace(context, trial=True)
    chosen = await (decided_by or router).route(
        query, candidates=candidates, top_k=top_k, context=context
    )
    ranked = await router.rank(query, candidates=candidates, context=context)
    parts = await _parts(router, query, candidates, context)
    labels = labels_of(candidates)
    cards = {labels[card.key]: card for card in candidates}
    options = _options(router)
    outcome = _Outcome(chosen, ranked, cards, options, top_k, parts, context.threshold)
    taken = {selection.adapter: selection for selection in chosen}
    explained = []
    for one in ranked:
        final = taken.get(one.adapter, one)
        explained.append(
            ExplainedCandidate(
                final.adapter,
                final.confidence,
                final.weight,
                final.reason,
                outcome.of(one),
                parts.get(one.adapter),
            )
        )
    return Explanation(tuple(chosen), tuple(explained))


async def _parts(
    router: RankingRouter, query: str, candidates: Sequence[AdapterCard], context: RouteContext
) -> dict[str, Parts]:
    if not isinstance(router, CardRouter):
        return {}
    ranking = await router.ranking(query, candidates=candidates, context=context)
    if ranking is None:
        return {}
    evidence = ranking.evidence
    evidence.leading()  # looks at all
    return {label: _part(evidence, row) for row, label in enumerate(evidence.view.labels)}


def _part(evidence: Evidence, row: int) -> Parts:
    meaning, bm25 = evidence.meaning, float(evidence.lexical.scores[row])
    score = float(evidence.scores[row])
    if meaning is None:
        return Parts(score, None, score, None, bm25, None, None)
    words = evidence.words_weight * float(evidence.words[row])
    card, at = evidence.view.cards[row], int(meaning.nearest_at[row])
    return Parts(
        score=score,
        meaning=score - words,
        words=words,
        similarity=float(meaning.scores[row]),
        bm25=bm25,
        nearest=card.sentence if at == 0 else card.examples[at - 1],
        cosine=float(meaning.nearest[row]),
    )


@dataclass(frozen=True, slots=True)
class _Outcome:
    chosen: Sequence[Selection]
    ranked: Sequence[Selection]
    cards: Mapping[str, AdapterCard]  # by label
    options: RouterOptions
    top_k: int
    parts: Mapping[str, Parts]
    threshold: float | None

    def of(self, one: Selection) -> str:
        """What became of a candidate, in words."""
        names = [selection.adapter for selection in self.chosen]
        if one.adapter in names:
            return "chosen"
        card = self.cards[one.adapter]
        group, least = card.group, threshold_of(card, self.options, self.threshold)
        whose = "its" if card.threshold == least else "the"
        groups = {self.cards[name].group: name for name in names if name in self.cards}
        rival = groups.get(group) if group else None
        if one.confidence < least:
            why = f"below {whose} threshold of {least:.0%}"
        elif rival is not None:
            why = f"{rival} of the same group {group!r} was chosen"
        elif len(names) >= self.top_k:
            why = f"at most {self.top_k} chosen"
        else:
            why = "its share is too small, one before it was unsure, or a plugin decided"
        lag = self._lag(one.adapter)
        return f"{why}; {lag}" if lag else why

    def _lag(self, adapter: str) -> str:
        """By how much, and in what, a candidate is behind the best."""
        best = (self.chosen or self.ranked)[0].adapter
        mine, its = self.parts.get(adapter), self.parts.get(best)
        if adapter == best or mine is None or its is None:
            return ""
        behind = {"words": its.words - mine.words}
        if its.meaning is not None and mine.meaning is not None:
            behind = {"meaning": its.meaning - mine.meaning} | behind
        said = [f"{gap:.1f} in {part}" for part, gap in behind.items() if gap >= 0.05]
        return f"behind {best} by {' and '.join(said)}" if said else ""


def _options(router: RankingRouter) -> RouterOptions:
    options = getattr(router, "options", None)
    return options if isinstance(options, RouterOptions) else RouterOptions()
