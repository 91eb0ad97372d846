"""Rows are read whole or refused by line, and no prompt is on both sides of the split."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intrinsic.errors import ConfigError
from intrinsic.training.lora.examples import draw_examples
from intrinsic.training.lora.rows import TrainingFile, TrainingRow, read_rows
from intrinsic.training.lora.split import split
from tests.training.given import ROWS, write_rows

TURNS = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "content": "who?"},
    {"role": "assistant", "content": "me"},
]


def file_of(prompts: list[str]) -> TrainingFile:
    rows = [
        TrainingRow(n, ({"role": "user", "content": text},), f"r{n}")
        for n, text in enumerate(prompts, 1)
    ]
    return TrainingFile(Path("rows.jsonl"), "", tuple(rows))


def test_pairs_and_conversations_are_read_with_their_lines(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [ROWS[0], "", {"messages": TURNS, "id": 7}])
    found = read_rows(path)
    assert found.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    pair, conversation = found.rows
    assert (pair.line, pair.question, pair.response) == (1, "say 0 times, please", "it is 0")
    assert (conversation.line, conversation.question, conversation.response) == (3, "who?", "me")
    assert [turn["content"] for turn in conversation.turns] == ["hi", "hello", "who?"]


def test_a_byte_order_mark_and_windows_line_ends_are_no_matter(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "a", "response": "b"}\r\n\r\n')
    assert [row.question for row in read_rows(path).rows] == ["a"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nope", "no JSON (Expecting value at character 1)"),
        ("[1]", "it holds '[1]'"),
        ('{"prompt": "a"}', "response is missing"),
        ('{"response": "a"}', "prompt is missing"),
        ('{"question": "a"}', "prompt is missing"),
        ('{"text": "a"}', "or write prompt and response"),
        ('{"query": "a", "positive": "b"}', "positive and query, as rows for a text encoder"),
        ('{"prompt": 3, "response": "b"}', "prompt is 3; it must be a text"),
        ('{"prompt": "a", "response": " "}', "response is empty"),
        ('{"prompt": "\\ud800", "response": "b"}', "half a character"),
        ('{"prompt": "a", "response": "b", "messages": []}', "keep one of the two"),
        ('{"messages": "a"}', "no list of at least"),
        ('{"messages": [{"role": "assistant", "content": "a"}]}', "no list of at least"),
        ('{"messages": [1, 2]}', "message 1 is 1"),
        ('{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}',
         "it must be 'assistant'"),
        ('{"messages": [{"role": "user"}, {"role": "assistant", "content": "b"}]}',
         "content of message 1 is missing"),
        ("[" * 100_000, "nested too deeply"),
    ],
)  # fmt: skip
def test_a_broken_row_is_named_by_its_line(tmp_path: Path, line: str, words: str) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [ROWS[0], line, ROWS[1]])
    with pytest.raises(ConfigError) as refused:
        read_rows(path)
    head, told = str(refused.value).split("\n")
    assert head == f"{path} has 1 broken row, nothing was trained or written:"
    assert told.startswith("  line 2: ")
    assert words in told


def test_bytes_that_are_no_utf8_are_a_broken_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"prompt": "a", "response": "b"}\n{"prompt": "\xff"}\n')
    with pytest.raises(ConfigError, match=r"line 2: it is not UTF-8 \(byte 13"):
        read_rows(path)


def test_ten_broken_rows_are_listed_and_the_others_counted(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", ["{}"] * 13)
    with pytest.raises(ConfigError) as refused:
        read_rows(path)
    lines = str(refused.value).split("\n")
    assert "13 broken rows" in lines[0]
    assert [line.split(":")[0].strip() for line in lines[1:11]] == [
        f"line {n}" for n in range(1, 11)
    ]
    assert lines[11:] == ["  and 3 more"]


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_a_file_without_rows_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError, match="has no rows; write a line such as"):
        read_rows(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_rows(tmp_path / "rows.jsonl")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_rows(tmp_path)


@given(
    prompts=st.lists(st.sampled_from([f"p {n}" for n in range(9)]), min_size=2, max_size=60),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 3),
)
def test_no_prompt_is_on_both_sides(prompts: list[str], share: float, seed: int) -> None:
    data = file_of(prompts)
    if len(set(prompts)) == 1:
        with pytest.raises(ConfigError, match="all of one prompt"):
            split(data, share, seed)
        return
    train, held = split(data, share, seed)
    assert train
    assert held
    assert not {row.key for row in train} & {row.key for row in held}
    assert sorted([*train, *held], key=lambda row: row.line) == list(data.rows)
    assert split(data, share, seed) == (train, held)


def test_the_split_has_about_its_share_and_follows_the_seed() -> None:
    data = file_of([f"p {n}" for n in range(200)])
    halves = [split(data, 0.25, seed)[1] for seed in range(3)]
    assert [len(held) for held in halves] == [50, 50, 50]
    assert len({tuple(row.line for row in held) for held in halves}) == 3


def test_prompts_that_differ_in_spaces_and_capitals_are_one() -> None:
    with pytest.raises(ConfigError, match="3 rows, all of one prompt"):
        split(file_of(["What  is it", "what is it", "what is\nit "]), 0.5, 0)


def test_one_row_is_too_few() -> None:
    with pytest.raises(ConfigError, match="has 1 row; training needs at least 2 prompts"):
        split(file_of(["a"]), 0.5, 0)


def test_examples_are_readable_prompts_unlike_each_other() -> None:
    same = [f"how do I bake bread number {n}" for n in range(100)]
    other = ["what is  a\nroux?", "why does milk curdle", "12 34", "word " * 80, "bad \x00 one"]
    found = draw_examples([*same, *other], seed=3)
    assert len(found) == 20
    assert all(len(text) <= 200 and text.isprintable() for text in found)
    assert {"what is a roux?", "why does milk curdle"} <= set(found)
    assert "12 34" not in found
    assert found == draw_examples([*same, *other], seed=3)
    assert found != draw_examples([*same, *other], seed=4)


def test_a_long_example_ends_with_a_whole_word() -> None:
    (found,) = draw_examples(["word " * 80], seed=0)
    assert found.endswith("word...")
    assert 190 < len(found) <= 200


def test_few_prompts_are_all_examples() -> None:
    assert set(draw_examples(["say 1", "say 2", "say 2", "say 3"], 0)) == {
        "say 1", "say 2", "say 3",
    }  # fmt: skip
