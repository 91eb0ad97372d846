"""Are the bundled adapters worth routing to, and does the router find them?

    python -m benchmarks demo --data DIR --json

Per domain on the valid split: answer loss (nats per token) of the base, of the domain's own
adapter and of the best of all; four-choice accuracy with 95 % Wilson intervals, by the
log-likelihood that the question adds to an answer (`accuracy_*`) and by the plain log-likelihood
per token (`accuracy_*_plain`). Over all domains: the router's top-1, and the share of the oracle's
gain in loss that the routed mixture recovers.
Everything runs through bus, router, manager and backend, as a request does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
from rich.console import Console
from rich.progress import track

from intrinsic import (
    AdapterManager,
    AdapterRegistry,
    MemoryBus,
    MemoryEvent,
    SentenceEncoder,
    TransformersBackend,
    adapters_path,
    base_path,
    setup_weight_interface,
)
from intrinsic.manager.manager import Asked
from intrinsic.training.corpus import Row, domain_rows
from intrinsic.training.evaluate import (
    QUESTIONS_PER_DOMAIN,
    Accuracy,
    Question,
    Score,
    accuracy_of,
    answer_loss,
    by_gain,
    by_likelihood,
    make_questions,
    score_questions,
)

LOSS_ROWS = 150
MAX_ANSWER_CHARS = 900
ROOT = Path(__file__).parents[1]


def run(argv: Sequence[str]) -> dict[str, Any]:
    """Measure everything; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks demo")
    parser.add_argument("--data", type=Path, help="folder with medical/, legal/, ...")
    parser.add_argument("--loss-rows", type=int, default=LOSS_ROWS)
    parser.add_argument("--questions", type=int, default=QUESTIONS_PER_DOMAIN)
    options = parser.parse_args(argv)
    data = options.data or _find_data()
    return anyio.run(_measure, data, options.loss_rows, options.questions)


def _find_data() -> Path:
    """A folder `data` in the checkout, or in a folder beside it."""
    for folder in (ROOT / "data", *sorted(ROOT.parent.glob("*/data"))):
        if (folder / "medical").is_dir():
            return folder
    sys.exit("no data folder here or beside the checkout; name it with --data")


@dataclass(frozen=True)
class _System:
    bus: MemoryBus
    manager: AdapterManager


async def _measure(data: Path, loss_rows: int, questions: int) -> dict[str, Any]:
    backend = TransformersBackend.from_pretrained(base_path())
    registry = AdapterRegistry.from_folder(adapters_path(), max_loaded=8)
    names = [entry.name for entry in registry.list_adapters()]
    async with MemoryBus() as bus:
        manager, _ = setup_weight_interface(bus, backend, registry, SentenceEncoder())
        system = _System(bus, manager)
        before = await backend.fingerprint()
        domains: dict[str, Any] = {}
        for name in track(names, "domains", console=Console(stderr=True)):
            rows = domain_rows(data, name, "valid")
            routed = await _route(system, rows)
            few = [_clipped(row) for row in rows[:: max(1, len(rows) // loss_rows)]]
            domains[name] = await _judge(system, name, names, rows, few, questions)
            domains[name]["routing_top1"] = sum(got == name for got in routed) / len(routed)
            domains[name]["routing_none"] = sum(got is None for got in routed) / len(routed)
            domains[name]["prompts"] = len(routed)
        identical = await backend.fingerprint() == before
    return _report(domains, identical)


def _clipped(row: Row) -> Row:
    """A row whose answer fits the base's context of 512 tokens together with its prompt."""
    return Row(row.id, row.prompt, row.response[:MAX_ANSWER_CHARS])


async def _route(system: _System, rows: Sequence[Row]) -> list[str | None]:
    """The first adapter that each prompt's event got, or None."""
    chosen: list[str | None] = []
    for row in rows:
        event = MemoryEvent.from_text(row.prompt, metadata={"shadow": True})
        await system.bus.publish(event)
        receipt = system.manager.receipt(event.id)
        assert receipt is not None
        chosen.append(receipt.selections[0].adapter if receipt.selections else None)
    return chosen


async def _judge(
    system: _System,
    domain: str,
    names: Sequence[str],
    rows: Sequence[Row],
    few: Sequence[Row],
    questions: int,
) -> dict[str, Any]:
    losses = {name: await _loss(system, few, {name: 1.0}) for name in names}
    asked = make_questions(rows, questions)
    base, base_plain = await _accuracy(system, asked, {})
    adapted, adapted_plain = await _accuracy(system, asked, {domain: 1.0})
    loss_base = await _loss(system, few, {})
    return {
        "loss_base": loss_base,
        "loss_adapter": losses[domain],
        "loss_reduction": 1 - losses[domain] / loss_base,
        "loss_routed": await _loss(system, few, None),
        "best_adapter": min(losses, key=lambda name: losses[name]),
        "losses": losses,
        "accuracy_base": base.share,
        "accuracy_base_95": [base.low, base.high],
        "accuracy_adapter": adapted.share,
        "accuracy_adapter_95": [adapted.low, adapted.high],
        "accuracy_base_plain": base_plain.share,
        "accuracy_adapter_plain": adapted_plain.share,
        "questions": len(asked),
        "loss_rows": len(few),
    }


async def _loss(system: _System, rows: Sequence[Row], what: Asked) -> float:
    """Answer loss under a fixed mixture, or, for None, under what each prompt is routed to."""
    return await anyio.to_thread.run_sync(answer_loss, rows, _scorer(system, what))


async def _accuracy(
    system: _System, questions: Sequence[Question], what: Asked
) -> tuple[Accuracy, Accuracy]:
    """Four-choice accuracy by gain over an empty question, and by plain likelihood per token."""
    scored = await anyio.to_thread.run_sync(score_questions, questions, _scorer(system, what))
    return accuracy_of(scored, by_gain), accuracy_of(scored, by_likelihood)


def _scorer(system: _System, what: Asked) -> Score:
    async def score(prompt: str, answers: Sequence[str]) -> list[tuple[float, int]]:
        asked: Asked = what
        if asked is None:
            asked = MemoryEvent.from_text(prompt)
            await system.bus.publish(asked)
        async with system.manager.lease(asked) as lease:
            scores = await lease.score(prompt, list(answers))
        return [(found.log_likelihood, found.tokens) for found in scores]

    return lambda prompt, answers: anyio.from_thread.run(score, prompt, answers)


def _report(domains: dict[str, Any], identical: bool) -> dict[str, Any]:
    prompts = sum(domain["prompts"] for domain in domains.values())
    right = sum(domain["routing_top1"] * domain["prompts"] for domain in domains.values())
    routed = sum(domain["loss_base"] - domain["loss_routed"] for domain in domains.values())
    oracle = sum(domain["loss_base"] - domain["loss_adapter"] for domain in domains.values())
    return {
        "domains": domains,
        "routing_top1": right / prompts,
        "routing_top1_worst": min(domain["routing_top1"] for domain in domains.values()),
        "oracle_gain_recovered": routed / oracle,
        "weights_identical": identical,
    }
