"""A router's decisions in the form in which clients get them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from intrinsic.receipt import Receipt
from intrinsic.routing.explanation import ExplainedCandidate
from intrinsic.selection import Selection
from intrinsic.server.scrub import Scrubber


class Chosen(BaseModel):
    """An adapter, the probability that it fits, its share of the mixture, and why."""

    adapter: str
    confidence: float
    weight: float
    reason: str

    @classmethod
    def of(cls, one: Selection) -> Chosen:
        """A selection."""
        return cls(
            adapter=one.adapter, confidence=one.confidence, weight=one.weight, reason=one.reason
        )


class Evidence(BaseModel):
    """What spoke for a candidate; null is what the router does not look at."""

    score: float
    meaning: float | None
    words: float
    similarity: float | None
    bm25: float
    nearest: str | None
    cosine: float | None


class Candidate(Chosen):
    """A candidate, and where it was asked for what became of it, and why."""

    outcome: str | None = None
    evidence: Evidence | None = None

    @classmethod
    def explained(cls, one: ExplainedCandidate) -> Candidate:
        """A candidate with its explanation."""
        parts = one.parts
        return cls(
            adapter=one.adapter,
            confidence=one.confidence,
            weight=one.weight,
            reason=one.reason,
            outcome=one.outcome,
            evidence=None
            if parts is None
            else Evidence(
                score=parts.score,
                meaning=parts.meaning,
                words=parts.words,
                similarity=parts.similarity,
                bm25=parts.bm25,
                nearest=parts.nearest,
                cosine=parts.cosine,
            ),
        )


class LeftOut(BaseModel):
    """Something that was left out, and why."""

    what: str
    why: str


class ReceiptOut(BaseModel):
    """What an event was answered with; times are in milliseconds."""

    request_id: str
    event_id: str
    selections: list[Chosen]
    mixture: dict[str, float]
    skipped: list[LeftOut]
    shadow: bool
    route_ms: float
    load_ms: float
    switch_ms: float

    @classmethod
    def of(cls, receipt: Receipt, scrub: Scrubber) -> ReceiptOut:
        """A receipt, without paths of this machine."""
        values: dict[str, Any] = {
            name: getattr(receipt, name)
            for name in ("request_id", "event_id", "shadow", "route_ms", "load_ms", "switch_ms")
        }
        return cls(
            **values,
            selections=[Chosen.of(one) for one in receipt.selections],
            mixture=dict(receipt.mixture.entries),
            skipped=[LeftOut(what=scrub(s.what), why=scrub(s.why)) for s in receipt.skipped],
        )
