"""A file of JSON lines to train on: its rows, or every broken line with what is wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from intrinsic.errors import ConfigError

SHOWN_PROBLEMS = 10


class Row(Protocol):
    """A row of any kind."""

    @property
    def line(self) -> int:
        """Where it stands in the file, counted from 1."""
        ...

    @property
    def key(self) -> str:
        """The same for rows that must not be on both sides of a split."""
        ...


RowT = TypeVar("RowT")


@dataclass(frozen=True)
class DataFile(Generic[RowT]):
    """A file's rows, and the SHA-256 of the bytes that they were read from."""

    path: Path
    digest: str
    rows: tuple[RowT, ...]


def read_lines(
    path: str | Path, row_of: Callable[[int, dict[str, Any]], RowT], form: str
) -> DataFile[RowT]:
    """Read a file of JSON objects, one a line; `row_of` makes a row of a line's number and object.

    Empty lines are passed over. `row_of` raises `ValueError` with what is wrong; `form` shows a
    line as it should be. Raises `ConfigError` for a file that cannot be read or has no rows, and
    one that names every broken line up to ten and counts the others.
    """
    file = Path(path)
    try:
        data = file.expanduser().read_bytes()
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"{file} cannot be read: {why}; name a file of JSON lines") from error
    rows, problems = [], []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append(row_of(number, _object(line, form)))
        except ValueError as error:
            problems.append((number, str(error)))
    refuse_broken(file, problems)
    if not rows:
        raise ConfigError(f"{file} has no rows; write a line such as {form} for each")
    return DataFile(file, hashlib.sha256(data).hexdigest(), tuple(rows))


def refuse_broken(file: Path, problems: Iterable[tuple[int, str]]) -> None:
    """Raise `ConfigError` where there are problems, each a line's number and what is wrong."""
    found = sorted(problems)
    if not found:
        return
    count = "1 broken row" if len(found) == 1 else f"{len(found)} broken rows"
    listed = [f"line {number}: {why}" for number, why in found[:SHOWN_PROBLEMS]]
    if len(found) > SHOWN_PROBLEMS:
        listed.append(f"and {len(found) - SHOWN_PROBLEMS} more")
    raise ConfigError(
        "\n  ".join([f"{file} has {count}, nothing was trained or written:", *listed])
    )


def text_of(value: object, what: str) -> str:
    """Return a text that says something; raise `ValueError` for anything else."""
    if value is None:
        raise ValueError(f"{what} is missing")
    if not isinstance(value, str):
        raise ValueError(f"{what} is {value!r:.60}; it must be a text")
    if not value.strip():
        raise ValueError(f"{what} is empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{what} has half a character, {value[error.start : error.end]!r}, at position "
            f"{error.start + 1}"
        ) from None
    return value


def folded(text: str) -> str:
    """The same for texts that differ in spaces and capitals alone."""
    return " ".join(text.split()).casefold()


def _object(line: bytes, form: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 (byte {error.start + 1} of the line)") from None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"it is no JSON ({error.msg} at character {error.pos + 1}); write {form} on one line"
        ) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(row, dict):
        raise ValueError(f"it holds {line.decode().strip()!r:.60}; write {form}")
    return row
