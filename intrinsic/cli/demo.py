"""`intrinsic demo`: the main job, shown step by step on the bundled model and adapters."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from intrinsic.backends import GenerationOptions
from intrinsic.cli.demo_page import print_end, print_start, print_step
from intrinsic.cli.output import OurConsole, print_json
from intrinsic.cli.session import loading, open_session
from intrinsic.cli.settings import settings_of
from intrinsic.errors import BackendError, RoutingError
from intrinsic.events import MemoryEvent
from intrinsic.receipt import Receipt
from intrinsic.selection import Selection
from intrinsic.system import System

QUESTIONS = Path(__file__).parent / "demo_questions.json"
_SHOWN_CANDIDATES = 3
_DECODING = GenerationOptions(max_new_tokens=60, repetition_penalty=1.15)


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model wrote, and the log-likelihood (nats) that it gives the reference answer.

    `switch_ms` is the time from asking for the mixture to having it in hand, in milliseconds.
    """

    text: str
    log_likelihood: float
    switch_ms: float


@dataclass(frozen=True, slots=True)
class Step:
    """One question of the demo, and everything that became of it. Times are in milliseconds."""

    question: str
    reference: str
    event: dict[str, str]
    candidates: list[Selection]
    receipt: Receipt
    base: Answers
    adapted: Answers


async def run_demo(as_json: bool) -> None:
    """Run all questions and show, or print as JSON, what happened."""
    start = time.perf_counter()
    questions = json.loads(QUESTIONS.read_text(encoding="utf-8"))
    async with open_session(settings_of({})) as session:
        before = await session.backend.fingerprint()
        if not as_json:
            print_start(session, OurConsole())
        steps = []
        for number, question in enumerate(questions, 1):
            with loading("", (f"question {number} of {len(questions)}",)) as done:
                step = await _answer(session, question["question"], question["reference"])
                done()
            steps.append(step)
            if not as_json:
                print_step(step, number, OurConsole())
        identical = await session.backend.fingerprint() == before
        seconds = time.perf_counter() - start
        if as_json:
            print_json(_summary(session, steps, before, identical, seconds))
        else:
            print_end(before, identical, seconds, OurConsole())
    if not identical:
        raise BackendError("the base weights have changed; please report this")


async def _answer(session: System, question: str, reference: str) -> Step:
    event = MemoryEvent.from_text(question)
    # First the event: ranking for display embeds the question and would make routing look free.
    report = await session.bus.publish(event)
    receipt = report.value
    if not isinstance(receipt, Receipt):
        raise RoutingError(f"the event was not answered: {report.errors}")
    cards = [entry.card for entry in session.registry.list_adapters()]
    candidates = await session.router.rank(question, candidates=cards)
    return Step(
        question=question,
        reference=reference,
        event={"id": event.id, "channel": str(event.channel), "time": event.time.isoformat()},
        candidates=candidates[:_SHOWN_CANDIDATES],
        receipt=receipt,
        base=await _answers(session, None, question, reference),
        adapted=await _answers(session, event, question, reference),
    )


async def _answers(
    session: System, event: MemoryEvent | None, question: str, reference: str
) -> Answers:
    asked = time.perf_counter()
    async with session.manager.lease(event or {}) as lease:
        switch_ms = (time.perf_counter() - asked) * 1e3
        generation = await lease.generate(question, _DECODING)
        (score,) = await lease.score(question, [reference])
    return Answers(generation.text.strip(), score.log_likelihood, switch_ms)


def _summary(
    session: System, steps: list[Step], digest: str, identical: bool, seconds: float
) -> dict[str, object]:
    return {
        "model": Path(session.backend.name).name,
        "adapters": [entry.key for entry in session.registry.list_adapters()],
        "questions": [
            {
                "question": step.question,
                "event": step.event,
                "candidates": [asdict(candidate) for candidate in step.candidates],
                "mixture": dict(step.receipt.mixture.entries),
                "skipped": [asdict(skipped) for skipped in step.receipt.skipped],
                "route_ms": step.receipt.route_ms,
                "load_ms": step.receipt.load_ms,
                "switch_ms": step.adapted.switch_ms,
                "answer_base": step.base.text,
                "answer_adapted": step.adapted.text,
                "reference": step.reference,
                "log_likelihood_base": step.base.log_likelihood,
                "log_likelihood_adapted": step.adapted.log_likelihood,
            }
            for step in steps
        ],
        "weights_sha256": digest,
        "weights_identical": identical,
        "seconds": round(seconds, 2),
    }
