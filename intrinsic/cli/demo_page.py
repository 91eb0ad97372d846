"""How the demo looks: panels on a terminal, the same lines as plain text in a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from intrinsic.receipt import Receipt
from intrinsic.system import System

if TYPE_CHECKING:
    from intrinsic.cli.demo import Step


def print_start(session: System, console: Console) -> None:
    """Name the model and the adapters."""
    names = ", ".join(entry.name for entry in session.registry.list_adapters())
    _say(console, f"base model: {session.backend.name}")
    _say(console, f"adapters:   {names}")


def print_step(step: Step, number: int, console: Console) -> None:
    """Show one question: event, candidates, mixture, times, both answers."""
    if console.is_terminal:
        console.print(_panel(step, number))
        return
    _say(console, "")
    for name, value in _lines(step, number):
        _say(console, f"{name:<12} {value}")


def print_end(digest: str, identical: bool, seconds: float, console: Console) -> None:
    """Say whether the weights are what they were."""
    verdict = "bit-identical to the start" if identical else "CHANGED"
    _say(console, "")
    _say(console, f"weights:    {verdict} (sha256 {digest[:16]}), {seconds:.1f} s in all")


def mixture_text(receipt: Receipt) -> str:
    """A mixture for people."""
    entries = receipt.mixture.entries
    return " + ".join(f"{w:.2f} x {key}" for key, w in entries) or "none fits: the base model"


def _lines(step: Step, number: int) -> list[tuple[str, str]]:
    receipt = step.receipt
    return [
        (f"question {number}", step.question),
        ("event", f"{step.event['channel']} {step.event['id'][:8]}"),
        *(
            ("candidate", f"{c.adapter:<10} {c.confidence:7.2%}  {c.reason}")
            for c in step.candidates
        ),
        ("mixture", mixture_text(receipt)),
        *(("skipped", f"{skipped.what}: {skipped.why}") for skipped in receipt.skipped),
        (
            "cost",
            f"routing {receipt.route_ms:.2f} ms, loading {receipt.load_ms:.2f} ms, "
            f"switching {step.adapted.switch_ms:.3f} ms",
        ),
        ("base", _one_line(step.base.text)),
        ("adapted", _one_line(step.adapted.text)),
        ("reference", _one_line(step.reference)),
        (
            "log-lik.",
            f"base {step.base.log_likelihood:.1f}, adapted {step.adapted.log_likelihood:.1f} nats "
            f"({step.adapted.log_likelihood - step.base.log_likelihood:+.1f})",
        ),
    ]


def _panel(step: Step, number: int) -> Panel:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold cyan", no_wrap=True)
    table.add_column()
    styles = {"mixture": "bold green", "base": "yellow", "adapted": "green", "candidate": "dim"}
    for name, value in _lines(step, number)[1:]:
        table.add_row(name, Text(value, style=styles.get(name, "")))
    title = f"[bold]{number}. {escape(step.question)}[/bold]"
    return Panel(Group(table), title=title, title_align="left")


def _one_line(text: str) -> str:
    return " / ".join(line.strip() for line in text.splitlines() if line.strip())


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
