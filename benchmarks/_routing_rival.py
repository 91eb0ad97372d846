"""Aurelio's semantic-router as its users use it, on the vectors that ours gets.

`IndexedRouter` with its `LocalIndex` and every default: the mean of each route's similarities
among the five nearest utterances, and no threshold, so that it refuses nothing. Its README asks
for `fit` on labelled queries and a threshold of 0.5 where it shall refuse; that is `fitted`.
The vectors are handed over as float32 arrays (its own encoders give lists of Python floats,
which make its index twice as large), and its coroutine is awaited, which spares it a thread.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks._routing_data import Kind, Row
from benchmarks._routing_metrics import Answers
from benchmarks._routing_vectors import Known
from intrinsic.card import AdapterCard

FITTED_THRESHOLD = 0.5


def is_installed() -> bool:
    """Whether semantic-router can be imported; nothing is imported."""
    return importlib.util.find_spec("semantic_router") is not None


def version() -> str:
    """The version that is installed, empty for none."""
    return importlib.metadata.version("semantic-router") if is_installed() else ""


def build(cards: Sequence[AdapterCard], known: Known, *, with_card: bool = False) -> Any:  # noqa: ANN401
    """A router whose routes are the cards; their examples are the utterances.

    A card without examples has its sentence as the only utterance; `with_card` adds it to others.
    """
    logging.getLogger("semantic_router").setLevel(logging.ERROR)
    from semantic_router import IndexedRouter
    from semantic_router.index import LocalIndex

    routes = [route(card, with_card=with_card) for card in cards]
    return IndexedRouter(encoder=_encoder(known), routes=routes, index=LocalIndex())


def route(card: AdapterCard, *, with_card: bool = False) -> Any:  # noqa: ANN401
    """The route that stands for a card."""
    from semantic_router import Route

    sentence = (card.sentence,) if with_card or not card.examples else ()
    return Route(
        name=card.name,
        utterances=[*sentence, *card.examples],
        description=card.description,
    )


async def answers(router: Any, rows: Sequence[Row], kind: Kind) -> Answers:  # noqa: ANN401
    """What it says to each row under its defaults; the confidence is its similarity score."""
    right, confidence = [], []
    for row in rows:
        choice = await router.acall(row.text)
        right.append(choice.name == row.answer(kind))
        confidence.append(choice.confidence)
    everything = np.ones(len(rows), np.bool_)
    in_scope = np.array([bool(row.answer(kind)) for row in rows])
    return Answers(in_scope, np.array(right), everything, np.array(confidence))


async def fitted(
    router: Any,  # noqa: ANN401
    plain: Answers,
    others: Sequence[Row],
    kind: Kind,
) -> Answers:
    """The same after its `fit` on other labelled rows, with the threshold that its README names."""
    await router.afit([row.text for row in others], [row.answer(kind) or None for row in others])
    confidence = router.calibrator(plain.confidence)
    accepted = confidence >= FITTED_THRESHOLD
    return Answers(plain.in_scope, plain.right, accepted, confidence)


def _encoder(known: Known) -> Any:  # noqa: ANN401
    from semantic_router.encoders import DenseEncoder

    class LookedUp(DenseEncoder):  # type: ignore[misc]
        """A dense encoder that looks its vectors up."""

        name: str = "known"

        def __call__(self, docs: list[Any]) -> list[Any]:
            return known(docs)

        async def acall(self, docs: list[Any]) -> list[Any]:
            return known(docs)

    return LookedUp()
