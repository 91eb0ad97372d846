"""Results for people on a terminal, as plain text in a pipe, and as JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

CLOSED_PIPE_EXIT_CODE = 141
"""What a shell reports for a program that wrote into a pipe whose reader had left."""


class OutputClosedError(Exception):
    """Raised when the reader of our output has left, as `head` does; no fault of ours."""


class OurConsole(Console):
    """A console that leaves it to the command to end where the reader has left."""

    def on_broken_pipe(self) -> None:
        """Raises `OutputClosedError`."""
        raise OutputClosedError


def write(text: str, *, end: str = "\n") -> None:
    """Write to standard output at once. Raises `OutputClosedError`."""
    try:
        print(text, end=end, flush=True)  # noqa: T201
    except BrokenPipeError as error:
        raise OutputClosedError from error


def tell(text: str) -> None:
    """Write to standard error, where somebody still reads it."""
    try:
        print(text, file=sys.stderr, flush=True)  # noqa: T201
    except OSError:
        _discard(sys.stderr)


def replace_what_cannot_be_written() -> None:
    """From now on a character that the terminal's encoding does not have is written as '?'."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def discard_output() -> None:
    """Send what is still in the buffer nowhere, so that the interpreter does not trip over it."""
    _discard(sys.stdout)


def print_json(value: object) -> None:
    """Print a value as JSON on standard output."""
    write(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: drawn on a terminal, tab-separated columns otherwise."""
    console = OurConsole()
    if not console.is_terminal:
        for row in (columns, *rows):
            write("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in row))
        return
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)


def _discard(stream: object) -> None:
    try:
        number = stream.fileno()  # type: ignore[attr-defined]
        nowhere = os.open(os.devnull, os.O_WRONLY)
    except (OSError, ValueError, AttributeError):
        return
    os.dup2(nowhere, number)
    os.close(nowhere)
