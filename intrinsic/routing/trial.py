"""A router tried on labelled queries: what it answers, many at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import anyio

from intrinsic.card import AdapterCard
from intrinsic.errors import ConfigError, IntrinsicError
from intrinsic.routing.card_router import CardRouter
from intrinsic.routing.evaluation import Answer, Report, measure
from intrinsic.routing.labelled import Labelled
from intrinsic.routing.options import RouterOptions
from intrinsic.routing.router import RankingRouter
from intrinsic.selection import Selection

FIRST = 3
_CONCURRENT = 32
_SHOWN = 5

Progress = Callable[[int], None]
"""Told how many queries were answered since it was told last."""


async def evaluate(
    router: RankingRouter,
    labelled: Sequence[Labelled],
    cards: Sequence[AdapterCard],
    *,
    threshold: float | None = None,
    unknown_as_none: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Return the figures of `router` on `labelled`, with `cards` as candidates.

    The threshold is the router's own where it has one, else 0.5; a card's own stands before it.
    Raises what `ask_all` raises, and `ConfigError` for a threshold outside [0, 1].
    """
    chosen = _threshold(router) if threshold is None else threshold
    if not 0.0 <= chosen <= 1.0:
        raise ConfigError(f"threshold is {chosen}; it must lie in [0, 1]")
    answers = await ask_all(
        router, labelled, cards, unknown_as_none=unknown_as_none, progress=progress
    )
    names = labels_of(cards)
    own = {names[card.key]: card.threshold for card in cards if card.threshold is not None}
    return measure(answers, threshold=chosen, thresholds=own)


async def ask_all(
    router: RankingRouter,
    labelled: Sequence[Labelled],
    cards: Sequence[AdapterCard],
    *,
    unknown_as_none: bool = False,
    progress: Progress | None = None,
) -> list[Answer]:
    """Return the router's first three of every query, in their order, asking 32 at a time.

    A label that no card has is a `ConfigError`, unless it is to mean that none fits. Whatever the
    router raises gets out.
    """
    right = _rights(labelled, cards, unknown_as_none)
    candidates = tuple(cards)
    answers: list[Answer] = []
    for at in range(0, len(labelled), _CONCURRENT):
        texts = [one.text for one in labelled[at : at + _CONCURRENT]]
        ranked = await _together(router, texts, candidates)
        answers += [
            Answer(
                text,
                right[at + nth],
                tuple(selection.adapter for selection in ranked[nth]),
                tuple(selection.confidence for selection in ranked[nth]),
            )
            for nth, text in enumerate(texts)
        ]
        if progress is not None:
            progress(len(texts))
    return answers


def labels_of(cards: Sequence[AdapterCard]) -> dict[str, str]:
    """Return what routers call each card, by `name@version`, and by name where one card has it."""
    distinct = dict.fromkeys(cards)
    count = Counter(card.name for card in distinct)
    alone = {card.name: card.name for card in distinct if count[card.name] == 1}
    return alone | {card.key: alone.get(card.name, card.key) for card in distinct}


async def _together(
    router: RankingRouter, texts: Sequence[str], cards: tuple[AdapterCard, ...]
) -> list[list[Selection]]:
    found: dict[int, list[Selection]] = {}
    errors: list[IntrinsicError] = []

    async def ask(nth: int) -> None:
        try:
            found[nth] = await _first(router, texts[nth], cards)
        except IntrinsicError as error:
            errors.append(error)
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for nth in range(len(texts)):
            tasks.start_soon(ask, nth)
    if errors:
        raise errors[0]
    return [found[nth] for nth in range(len(texts))]


async def _first(
    router: RankingRouter, text: str, cards: tuple[AdapterCard, ...]
) -> list[Selection]:
    if isinstance(router, CardRouter):
        return await router.rank(text, candidates=cards, first=FIRST)
    return (await router.rank(text, candidates=cards))[:FIRST]


def _threshold(router: RankingRouter) -> float:
    options = getattr(router, "options", None)
    return options.threshold if isinstance(options, RouterOptions) else 0.5


def _rights(
    labelled: Sequence[Labelled], cards: Sequence[AdapterCard], unknown_as_none: bool
) -> list[str | None]:
    known = labels_of(cards)
    unknown = Counter(
        one.adapter for one in labelled if one.adapter is not None and one.adapter not in known
    )
    if unknown and not unknown_as_none:
        shown = ", ".join(repr(name) for name, _ in unknown.most_common(_SHOWN))
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        names = sorted({card.name for card in cards})
        listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        raise ConfigError(
            f"{unknown.total()} labelled queries name adapters that are not here: {shown}{more}; "
            f"known: {listed or 'none'}; correct the labels, or count them as 'none fits'"
        )
    return [None if one.adapter is None else known.get(one.adapter) for one in labelled]
