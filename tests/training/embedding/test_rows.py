"""Pairs and labelled texts are read whole or refused by line."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from intrinsic.errors import ConfigError
from intrinsic.training.embedding.rows import LabelledRow, PairRow, read_texts
from tests.training.given import write_rows

PAIR = {"query": "q", "positive": "p"}
TEXT = {"text": "t", "label": "a"}


def test_pairs_are_read_with_their_lines(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [PAIR, "", PAIR | {"negative": "n", "id": 7}])
    found = read_texts(path)
    assert found.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.rows == (PairRow(1, "q", "p"), PairRow(3, "q", "p", "n"))


def test_labels_may_be_numbers_and_stand_alike_with_spaces(tmp_path: Path) -> None:
    rows = [TEXT, {"text": "u", "label": 3}, {"text": "v", "label": " a "}]
    found = read_texts(write_rows(tmp_path / "rows.jsonl", rows))
    assert found.rows == (
        LabelledRow(1, "t", "a"), LabelledRow(2, "u", "3"), LabelledRow(3, "v", "a"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "a", "response": "b"}, "query and text are missing; write"),
        ({"query": "q"}, "positive is missing"),
        ({"positive": "q"}, "query is missing"),
        ({"text": "q"}, "label is missing"),
        ({"text": "q", "label": True}, "label is True; it must be a text"),
        ({"text": " ", "label": "a"}, "text is empty"),
        (PAIR | {"negative": 3}, "negative is 3; it must be a text"),
        (PAIR | {"negative": ["n"]}, "negative is ['n']; it must be a text"),
        (PAIR | {"negative": "P "}, "negative is the query or the positive itself"),
        ({"query": "Same  text", "positive": "same text"}, "positive is the query itself"),
        (PAIR | TEXT, "it has positive and query beside label and text"),
    ],
)
def test_a_broken_row_is_named_by_its_line(tmp_path: Path, row: Any, words: str) -> None:
    path = write_rows(tmp_path / "rows.jsonl", ["", row])
    with pytest.raises(ConfigError) as refused:
        read_texts(path)
    head, told = str(refused.value).split("\n")
    assert head == f"{path} has 1 broken row, nothing was trained or written:"
    assert told.startswith("  line 2: ")
    assert words in told


def test_a_file_holds_one_kind(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [TEXT, PAIR])
    with pytest.raises(ConfigError, match="line 2: it is a pair, and line 1 is a labelled text"):
        read_texts(path)


def test_a_text_has_one_label(tmp_path: Path) -> None:
    rows = [TEXT, {"text": "u", "label": "b"}, {"text": " T", "label": "b"}, TEXT]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    with pytest.raises(ConfigError, match="line 3: its label is 'b', and in line 1 the same text"):
        read_texts(path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [])
    with pytest.raises(ConfigError, match="has no rows; write a line such as"):
        read_texts(path)
