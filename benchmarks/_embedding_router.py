"""What an adapter trained on a team's own queries is worth to the router, on CLINC150.

The team's queries are CLINC150's train rows: about 100 of each of its 150 intents, of which a few
that stand in valid too are left out. An adapter of the bundled encoder learns them by
`intrinsic train --kind embedding`, holding out a twentieth; settings were chosen on such held-out
train rows, and nothing on valid. Then the intents are adapters of a registry with k = 5 examples
each, drawn from train, and the routers answer valid with the untuned and with the tuned encoder.

The adapter has seen train queries of these very intents, 19 times as many as the router is shown.
So with `more`, `all_examples` says what the untuned encoder makes of all of them as examples, and
`unseen` what an adapter that learned two thirds of the intents is worth to queries of the others.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._routing_data import EVERY, Clinc, Row, own_texts, read
from benchmarks._routing_scores import Task, ours
from benchmarks._routing_vectors import Known, Say, known_of
from intrinsic.embedding import EmbeddingOptions, EmbeddingProvider
from intrinsic.routing import EncoderOptions, SentenceEncoder
from intrinsic.training.embedding.plan import EmbeddingPlan
from intrinsic.training.embedding.train import trained_embedding
from intrinsic.training.lora.data_file import folded
from intrinsic.training.lora.job import TrainingJob
from intrinsic.training.lora.progress import Progress

ROUTERS = ("hybrid", "embedding")
EXAMPLES = 5
UNSEEN = 1 / 3
"""The share of intents that an adapter of `unseen` does not learn."""

PLAN = EmbeddingPlan(max_steps=60, validation_share=0.05, patience=0, device="cpu", dtype="fp32")


@dataclass(frozen=True, slots=True)
class RouterTrial:
    """How the trial goes: draws of examples, steps of a training, and whether there is `more`.

    `adapters` keeps what is trained; adapters that lie there already are used as they are.
    """

    data: Path
    seeds: int = 3
    steps: int = 60
    more: bool = False
    adapters: Path | None = None


async def router_gain(trial: RouterTrial, say: Say) -> dict[str, Any]:
    """Train, route with and without the adapter, and return all figures.

    `router_gain_points` is the smaller of both routers' gains in top-1, in points.
    """
    if trial.adapters is None:
        with tempfile.TemporaryDirectory() as folder:
            return await router_gain(replace(trial, adapters=Path(folder)), say)
    data = read(trial.data)
    texts = data.texts() if trial.more else _shown(trial, data)
    async with _known(texts, None, say) as untuned:
        figures = await _seen(trial, data, untuned, say)
        gains = [figures[router]["gain_points"] for router in ROUTERS]
        if trial.more:
            figures["all_examples"] = await _all_examples(data, untuned, say)
            figures["unseen"] = await _unseen(trial, data, untuned, say)
    more = {"rows_of_valid": len(data.valid), "examples": EXAMPLES, "seeds": trial.seeds}
    return {"router_gain_points": min(gains), "router": figures | more}


async def _seen(trial: RouterTrial, data: Clinc, untuned: Known, say: Say) -> dict[str, Any]:
    """All queries of valid, with an adapter that learned all intents."""
    adapter, trained = _trained(trial, data, frozenset(), "seen", say)
    found = await _with(trial, data, untuned, adapter, data.valid, say)
    return found | {"training": trained}


async def _unseen(trial: RouterTrial, data: Clinc, untuned: Known, say: Say) -> dict[str, Any]:
    """Queries of intents that the adapter never saw, among all intents."""
    names = sorted({row.intent for row in data.train if row.intent})
    absent = frozenset(random.Random(trial.seeds).sample(names, round(UNSEEN * len(names))))
    adapter, trained = _trained(trial, data, absent, "unseen", say)
    rows = tuple(row for row in data.valid if row.intent in absent or not row.intent)
    found = await _with(trial, data, untuned, adapter, rows, say)
    return found | {"intents": len(absent), "training": trained}


async def _with(
    trial: RouterTrial,
    data: Clinc,
    untuned: Known,
    adapter: Path,
    rows: tuple[Row, ...],
    say: Say,
) -> dict[str, Any]:
    """Both routers' figures without and with an adapter."""
    async with _known(_shown(trial, data), adapter, say) as tuned:
        return {
            router: await _compared(trial, data, untuned, tuned, router, rows, say)
            for router in ROUTERS
        }


async def _compared(
    trial: RouterTrial,
    data: Clinc,
    untuned: Known,
    tuned: Known,
    router: str,
    rows: tuple[Row, ...],
    say: Say,
) -> dict[str, Any]:
    """A router's figures with both encoders, over the same draws of examples."""
    found: dict[str, dict[str, list[float]]] = {}
    for seed in range(trial.seeds):
        cards = data.registry("intent", EXAMPLES, seed)
        for name, known in (("untuned", untuned), ("tuned", tuned)):
            say(f"{router} router, {name}, draw {seed}")
            answers = await ours(
                Task(data, rows, (), known, known, trial.seeds, False, say),
                cards,
                "intent",
                name=router,
            )
            of = found.setdefault(name, {})
            for key in ("top1", "a95", "e2e"):
                of.setdefault(key, []).append(getattr(answers, key))
    figures = {
        name: {key: _percent(values) for key, values in of.items()} for name, of in found.items()
    }
    gains = np.subtract(found["tuned"]["top1"], found["untuned"]["top1"])
    say(f"{router} router, top-1: {_percent(gains):+.2f} points, {figures}")
    return figures | {
        "gain_points": _percent(gains),
        "gain_points_of_draws": [_percent([gain]) for gain in gains],
    }


async def _all_examples(data: Clinc, untuned: Known, say: Say) -> dict[str, float]:
    """The default router and the untuned encoder, with all train rows as examples."""
    say("hybrid router, untuned, all examples")
    cards = data.registry("intent", EVERY, 0)
    task = Task(data, data.valid, (), untuned, untuned, 1, False, say)
    answers = await ours(task, cards, "intent")
    return {key: _percent([getattr(answers, key)]) for key in ("top1", "a95", "e2e")}


def _shown(trial: RouterTrial, data: Clinc) -> list[str]:
    """What the routers read where they are shown a few examples, without repeats."""
    draws = [data.registry("intent", EXAMPLES, seed) for seed in range(trial.seeds)]
    cards = [card for drawn in draws for card in drawn]
    texts = [text for card in cards for text in (*own_texts(card), *card.examples)]
    return list(dict.fromkeys([*texts, *(row.text for row in data.valid)]))


@asynccontextmanager
async def _known(texts: Sequence[str], adapter: Path | None, say: Say) -> AsyncIterator[Known]:
    """The vectors of texts: the default encoder's as it comes, or those of one with an adapter."""
    if adapter is None:
        as_it_comes = SentenceEncoder(options=EncoderOptions(runtime="torch", cached_texts=0))
        yield await known_of(texts, as_it_comes, None, say)
        return
    options = EmbeddingOptions(lora_adapter_path=adapter, cached_texts=0)
    async with EmbeddingProvider(options) as provider:
        yield await known_of(texts, provider, None, say)


def _trained(
    trial: RouterTrial, data: Clinc, absent: Collection[str], name: str, say: Say
) -> tuple[Path, dict[str, Any]]:
    """An adapter trained on all intents but the absent ones, and how it was."""
    assert trial.adapters is not None
    file, folder = trial.adapters / f"{name}.jsonl", trial.adapters / name
    stands_in_valid = {folded(row.text) for row in data.valid}
    rows = [
        {"text": row.text, "label": row.intent}
        for row in data.train
        if row.intent and row.intent not in absent and folded(row.text) not in stands_in_valid
    ]
    trial.adapters.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    plan = replace(PLAN, max_steps=trial.steps)
    noted = trial.adapters / f"{name}.json"
    if not folder.exists():
        job = TrainingJob("all-MiniLM-L6-v2", file, f"clinc-{name}", out=folder)
        started = time.perf_counter()
        made = trained_embedding(job, plan, _Said(say))
        figures = {
            "rows": made.train_rows,
            "steps": made.steps,
            "best_step": made.best_step,
            "minutes": round((time.perf_counter() - started) / 60, 1),
            "held_out": {"untuned": asdict(made.base), "tuned": asdict(made.adapter)},
        }
        noted.write_text(json.dumps(figures), encoding="utf-8")
    kept: dict[str, Any] = json.loads(noted.read_text(encoding="utf-8"))
    return folder, kept


class _Said(Progress):
    """Says each validation."""

    def __init__(self, say: Say) -> None:
        self._say = say

    def validated(self, step: int, loss: float, *, best: bool) -> None:
        self._say(f"training, step {step}: held out {loss:.4f}")


def _percent(values: Any) -> float:  # noqa: ANN401
    return round(100.0 * float(np.mean(values)), 2)
