"""Rows that an encoder learns from: pairs that belong together, or texts with their labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intrinsic.training.lora.data_file import (
    DataFile,
    folded,
    read_lines,
    refuse_broken,
    text_of,
)

_PAIR = '{"query": "...", "positive": "..."}'
_LABELLED = '{"text": "...", "label": "..."}'
_FORM = f"{_PAIR} or {_LABELLED}"


@dataclass(frozen=True, slots=True)
class PairRow:
    """A query and a text that answers it, perhaps with one that does not; `line` is from 1."""

    line: int
    query: str
    positive: str
    negative: str | None = None

    @property
    def key(self) -> str:
        """The same for queries that differ in spaces and capitals alone."""
        return folded(self.query)


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """A text and the name of what it is; texts of one label belong together."""

    line: int
    text: str
    label: str

    @property
    def key(self) -> str:
        """The same for texts that differ in spaces and capitals alone."""
        return folded(self.text)


TextRow = PairRow | LabelledRow


def read_texts(path: str | Path) -> DataFile[PairRow] | DataFile[LabelledRow]:
    """Read lines such as `{"query", "positive", "negative"?}`, or else `{"text", "label"}`.

    A file holds one of the two. Other keys and empty lines are passed over. Raises `ConfigError` as
    `read_lines` does, also for a text that has two labels and for a pair of twice the same.
    """
    read = read_lines(path, _row, _FORM)
    pairs = tuple(row for row in read.rows if isinstance(row, PairRow))
    labelled = tuple(row for row in read.rows if isinstance(row, LabelledRow))
    if pairs and labelled:
        first = read.rows[0]
        other = (labelled if isinstance(first, PairRow) else pairs)[0]
        kinds = {PairRow: "a pair", LabelledRow: "a labelled text"}
        why = (
            f"it is {kinds[type(other)]}, and line {first.line} is {kinds[type(first)]}; "
            "a file holds one kind"
        )
        refuse_broken(read.path, [(other.line, why)])
    if pairs:
        return DataFile(read.path, read.digest, pairs)
    refuse_broken(read.path, _labelled_twice(labelled))
    return DataFile(read.path, read.digest, labelled)


def _row(number: int, row: dict[str, Any]) -> TextRow:
    paired, labelled = {"query", "positive"} & set(row), {"text", "label"} & set(row)
    if paired and labelled:
        raise ValueError(f"it has {_of(paired)} beside {_of(labelled)}; write {_FORM}")
    if labelled:
        label = row.get("label")
        if isinstance(label, int) and not isinstance(label, bool):
            label = str(label)
        return LabelledRow(
            number, text_of(row.get("text"), "text"), text_of(label, "label").strip()
        )
    if not paired:
        raise ValueError(f"query and text are missing; write {_FORM}")
    query, positive = (text_of(row.get(key), key) for key in ("query", "positive"))
    negative = None if row.get("negative") is None else text_of(row["negative"], "negative")
    if folded(query) == folded(positive):
        raise ValueError("positive is the query itself, from which nothing is learned")
    if negative is not None and folded(negative) in (folded(query), folded(positive)):
        raise ValueError("negative is the query or the positive itself; leave it out")
    return PairRow(number, query, positive, negative)


def _of(keys: set[str]) -> str:
    return " and ".join(sorted(keys))


def _labelled_twice(rows: tuple[LabelledRow, ...]) -> list[tuple[int, str]]:
    first: dict[str, LabelledRow] = {}
    found = []
    for row in rows:
        other = first.setdefault(row.key, row)
        if other.label != row.label:
            found.append(
                (
                    row.line,
                    f"its label is {row.label!r:.60}, and in line {other.line} the same text has "
                    f"{other.label!r:.60}; keep one",
                )
            )
    return found
