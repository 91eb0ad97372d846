"""`intrinsic ask`: one question, routed, answered, streamed."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import asdict, dataclass

from intrinsic.cli.output import print_json, tell, write
from intrinsic.cli.plugin_log import tell_error
from intrinsic.cli.session import open_session
from intrinsic.config import Settings
from intrinsic.errors import ConfigError
from intrinsic.events import MemoryEvent
from intrinsic.receipt import Receipt
from intrinsic.selection import Selection
from intrinsic.system import System


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask, and what to show. Raises `ConfigError` for what is no text."""

    text: str
    adapt: bool = True
    explain: bool = False

    def __post_init__(self) -> None:
        try:
            self.text.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(
                f"the question is not valid UTF-8 at position {error.start}; "
                "check the encoding of the terminal or of the file that it comes from"
            ) from error


async def run_ask(question: Question, settings: Settings, as_json: bool) -> None:
    """Route the question and stream the answer; what was applied goes to standard error."""
    async with open_session(settings) as session:
        event = MemoryEvent.from_text(question.text)
        receipt, ranking = await _route(session, event, question)
        if not as_json:
            _tell(receipt, ranking, question)
        parts: list[str] = []
        decoding = settings.generation_options()
        async with (
            session.manager.lease(event if question.adapt else {}) as lease,
            aclosing(lease.stream(question.text, decoding)) as pieces,
        ):
            async for piece in pieces:
                parts.append(piece)
                if not as_json:
                    write(piece, end="")
        if as_json:
            print_json(_answer("".join(parts), receipt, ranking, question))
        else:
            write("")


async def _route(
    session: System, event: MemoryEvent, question: Question
) -> tuple[Receipt | None, list[Selection]]:
    ranking: list[Selection] = []
    if question.explain:
        cards = [entry.card for entry in session.registry.list_adapters()]
        ranking = await session.router.rank(question.text, candidates=cards)
    if not question.adapt:
        return None, ranking
    report = await session.bus.publish(event)
    for error in report.errors:
        tell_error(error)
    return session.manager.receipt(event.id), ranking


def _tell(receipt: Receipt | None, ranking: list[Selection], question: Question) -> None:
    lines = [f"  {s.adapter:<16} {s.confidence:6.1%}  {s.reason}" for s in ranking]
    if receipt is None:
        lines.append("base model (nothing routed)")
    else:
        for selection in receipt.selections:
            lines.append(
                f"{selection.adapter} x {selection.weight:.2f} "
                f"({selection.confidence:.0%}): {selection.reason}"
            )
        if not receipt.selections:
            lines.append("no adapter fits: base model")
        lines += [f"skipped {skipped.what}: {skipped.why}" for skipped in receipt.skipped]
        if receipt.shadow:
            lines.append("shadow mode: the base model answers")
    tell("\n".join(lines))


def _answer(
    text: str, receipt: Receipt | None, ranking: list[Selection], question: Question
) -> dict[str, object]:
    return {
        "question": question.text,
        "answer": text,
        "mixture": dict(receipt.mixture.entries) if receipt else {},
        "receipt": asdict(receipt) if receipt else None,
        "candidates": [asdict(selection) for selection in ranking],
    }
