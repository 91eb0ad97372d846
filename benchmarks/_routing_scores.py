"""How often a router is right, and knows when nothing fits: ours and semantic-router."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import _routing_rival as rival
from benchmarks._routing_data import EVERY, Clinc, Kind, Row
from benchmarks._routing_metrics import Answers, a95_interval
from benchmarks._routing_vectors import Known, Say
from intrinsic.card import AdapterCard
from intrinsic.routing import make_router
from intrinsic.routing.evaluation import auroc, calibration_error

EXAMPLES = {"k0": 0, "k5": 5, "k10": 10, "all": EVERY}

POOLED = ("k5", "k10", "all")
"""The numbers of examples over which the calibration error is pooled."""

ABSENT = 0.25
"""The share of the intents that is missing from a registry of `near`."""


@dataclass(frozen=True, eq=False)
class Task:
    """The data, the rows that are scored, those that are not, and the vectors of all.

    `plain` are those for the rival.
    """

    data: Clinc
    scored: tuple[Row, ...]
    others: tuple[Row, ...]
    known: Known
    plain: Known
    seeds: int
    beside: bool  # whether semantic-router is scored too
    say: Say

    def seeds_of(self, k: int) -> range:
        """The draws of `k` examples; there is but one of none and of all."""
        return range(1 if k in (0, EVERY) else self.seeds)


async def clinc150(task: Task) -> dict[str, Any]:
    """Top-1, a95 and e2e of 150 intents, and the calibration error."""
    runs: dict[str, dict[str, list[Answers]]] = {}
    for name, k in EXAMPLES.items():
        for seed in task.seeds_of(k):
            task.say(f"clinc150 {name} seed {seed}")
            cards = task.data.registry("intent", k, seed)
            found = {"ours": await ours(task, cards, "intent")}
            if task.beside:
                found |= await _rivals(task, cards)
            for who, answers in found.items():
                runs.setdefault(who, {}).setdefault(name, []).append(answers)
    figures = {
        who: {name: _figures(found) for name, found in of_who.items()}
        for who, of_who in runs.items()
    }
    pooled = {
        who: [run for name in POOLED for run in _as_often(of_who[name], task.seeds)]
        for who, of_who in runs.items()
    }
    calibrated = {
        who: calibration_error(
            np.concatenate([run.confidence for run in found]),
            np.concatenate([run.right for run in found]),
        )
        for who, found in pooled.items()
    }
    return {"clinc150": figures, "ece": calibrated.pop("ours"), "ece_of_others": calibrated}


async def near(task: Task) -> dict[str, Any]:
    """AUROC of the first confidence: intents that are there against a quarter that is missing."""
    found: dict[str, list[float]] = {}
    for seed in range(task.seeds):
        task.say(f"near out-of-scope, draw {seed}")
        cards = task.data.registry("intent", 10, seed)
        names = [card.name for card in cards]
        absent = set(random.Random(seed).sample(names, round(ABSENT * len(names))))
        registered = tuple(card for card in cards if card.name not in absent)
        rows = tuple(row for row in task.scored if row.intent)
        missing = np.array([row.intent in absent for row in rows])
        said = {"ours": await ours(task, registered, "intent", rows)}
        if task.beside:
            router = rival.build(registered, task.plain)
            said["semantic_router"] = await rival.answers(router, rows, "intent")
        for who, answers in said.items():
            score = auroc(answers.confidence, ~missing)
            found.setdefault(who, []).append(score)
    return {
        "near_oos_auroc_k10": _percent(found["ours"]),
        "near_oos_details": {who: _spread("auroc", values) for who, values in found.items()},
    }


async def domains(task: Task) -> dict[str, Any]:
    """Top-1 with the ten broad domains as adapters."""
    rows = tuple(row for row in task.scored if row.domain)
    figures: dict[str, dict[str, float]] = {}
    details: dict[str, Any] = {}
    for name in ("k5", "all"):
        found: dict[str, list[float]] = {}
        for seed in task.seeds_of(EXAMPLES[name]):
            task.say(f"domains {name} seed {seed}")
            cards = task.data.registry("domain", EXAMPLES[name], seed)
            said = {"ours": await ours(task, cards, "domain", rows)}
            if task.beside:
                router = rival.build(cards, task.plain)
                said["semantic_router"] = await rival.answers(router, rows, "domain")
            for who, answers in said.items():
                found.setdefault(who, []).append(answers.top1)
        for who, values in found.items():
            figures.setdefault(who, {})[name] = _percent(values)
        details[name] = {who: _spread("top1", values) for who, values in found.items()}
    return {
        "domains": figures.pop("ours"),
        "domains_of_others": figures,
        "domains_details": details,
    }


async def ours(
    task: Task,
    cards: tuple[AdapterCard, ...],
    kind: Kind,
    rows: Sequence[Row] | None = None,
    *,
    name: str = "hybrid",
) -> Answers:
    """What a new router, by default the default one, says to each row by `rank` and `route`."""
    rows = task.scored if rows is None else rows
    router: Any = make_router(name, task.known)
    await router.warm_up(cards)
    right, accepted, confidence = [], [], []
    for row in rows:
        first = (await router.rank(row.text, candidates=cards, first=1))[0]
        chosen = await router.route(row.text, candidates=cards)
        right.append(first.adapter == row.answer(kind))
        accepted.append(bool(chosen))
        confidence.append(first.confidence)
        if chosen and chosen[0].adapter != first.adapter:
            raise AssertionError(f"route and rank differ about {row.text!r}")
    if degraded := getattr(router, "degraded", None):
        raise RuntimeError(f"ours went on without its encoder: {degraded}")
    in_scope = np.array([bool(row.answer(kind)) for row in rows])
    return Answers(in_scope, np.array(right), np.array(accepted), np.array(confidence))


async def _rivals(task: Task, cards: tuple[AdapterCard, ...]) -> dict[str, Answers]:
    router = rival.build(cards, task.plain)
    plain = await rival.answers(router, task.scored, "intent")
    found = {"semantic_router": plain}
    found["semantic_router_fitted"] = await rival.fitted(router, plain, task.others, "intent")
    if cards[0].examples:
        router = rival.build(cards, task.plain, with_card=True)
        found["semantic_router_with_card"] = await rival.answers(router, task.scored, "intent")
    return found


def _as_often(runs: list[Answers], times: int) -> list[Answers]:
    """A draw that is the only one there is, as often as the others were drawn."""
    return runs * times if len(runs) == 1 else runs


def _figures(runs: list[Answers]) -> dict[str, Any]:
    low, high = a95_interval(runs, seed=0)
    figures: dict[str, Any] = {}
    for name, of_run in _MEASURES.items():
        figures |= _spread(name, [of_run(run) for run in runs])
    figures["a95_interval"] = [round(100.0 * low, 2), round(100.0 * high, 2)]
    figures["ece"] = float(np.mean([run.ece for run in runs]))
    return figures


_MEASURES: dict[str, Callable[[Answers], float]] = {
    "top1": lambda run: run.top1,
    "a95": lambda run: run.a95,
    "e2e": lambda run: run.e2e,
    "refused": lambda run: run.refused,
}


def _spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """The mean in percent and, where there are several, the standard deviation beside it."""
    figures = {name: _percent(values)}
    if len(values) > 1:
        figures[f"{name}_sd"] = round(100.0 * float(np.std(values, ddof=1)), 2)
    return figures


def _percent(values: Sequence[float]) -> float:
    return round(100.0 * float(np.mean(values)), 2)
