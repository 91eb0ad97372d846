"""Described tasks from a folder, or the line that is broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from intrinsic.errors import ConfigError
from intrinsic.hypernet.tasks import Task, chosen, digest_of, read_tasks, thinned
from tests.training.given import write_rows

ROWS = [{"prompt": f"Shout it.\nword {n}", "response": f"WORD {n}"} for n in range(3)]


def folder_with(folder: Path, *index: Any, rows: Any = ROWS) -> Path:
    write_rows(folder / "shout.jsonl", rows)
    write_rows(folder / "index.jsonl", index)
    return folder


SHOUT = {"task": "shout", "instruction": "Shout it.", "file": "shout.jsonl"}


def test_an_instruction_in_front_of_a_prompt_is_taken_off(tmp_path: Path) -> None:
    (found,) = read_tasks(folder_with(tmp_path, SHOUT))
    assert found == Task(
        "shout", ("Shout it.",), tuple((f"word {n}", f"WORD {n}") for n in range(3))
    )


def test_several_descriptions_and_a_split(tmp_path: Path) -> None:
    line = {k: v for k, v in SHOUT.items() if k != "instruction"}
    given = line | {"descriptions": ["in capitals", "Shout it."], "split": "validation"}
    (found,) = read_tasks(folder_with(tmp_path, given, ""))
    assert found.descriptions == ("in capitals", "Shout it.")
    assert found.split == "validation"
    assert found.rows[0] == ("word 0", "WORD 0")


def test_separators_of_lines_that_json_allows_in_a_text_are_text(tmp_path: Path) -> None:
    line = '{"task": "shout", "instruction": "Shout\u2028it.\u0085", "file": "shout.jsonl"}\r'
    (found,) = read_tasks(folder_with(tmp_path, line))
    assert found.descriptions == ("Shout\u2028it.\u0085",)


def test_conversations_are_refused_by_their_lines(tmp_path: Path) -> None:
    turns = [{"role": r, "content": r} for r in ("system", "user", "assistant")]
    rows = [*ROWS, {"messages": turns[1:]}, {"messages": turns}, {"messages": turns[1:] * 2}]
    with pytest.raises(ConfigError, match="2 broken rows") as caught:
        read_tasks(folder_with(tmp_path, SHOUT, rows=rows))
    assert "line 5: it has more turns" in str(caught.value)
    assert "line 6: it has more turns" in str(caught.value)


def test_a_prompt_that_is_nothing_but_the_instruction_stays(tmp_path: Path) -> None:
    rows = [{"prompt": "Shout it.\n ", "response": "!"}, {"prompt": "Shout it.", "response": "!"}]
    (found,) = read_tasks(folder_with(tmp_path, SHOUT, rows=rows))
    assert [prompt for prompt, _ in found.rows] == ["Shout it.\n ", "Shout it."]


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ("{", "index.jsonl line 1: it is no JSON"),
        ("7", "line 1: it holds '7'; write"),
        (SHOUT | {"task": " "}, "line 1: task is ' '; it must be a text"),
        (SHOUT | {"instruction": None}, "line 1: instruction is None"),
        (SHOUT | {"descriptions": []}, "line 1: descriptions is []; write a list of texts"),
        (SHOUT | {"descriptions": [3]}, "line 1: a description is 3"),
        (SHOUT | {"split": 1}, "line 1: split is 1"),
        (f'{{"task": {"9" * 5000}}}', "line 1: it is no JSON"),
        ("[" * 100_000, "line 1: it is no JSON"),
        (SHOUT | {"file": "a\0b"}, "line 1: file is 'a"),
        (SHOUT | {"instruction": "\ud800!"}, "line 1: instruction is '"),
        (SHOUT | {"file": "none.jsonl"}, "none.jsonl cannot be read"),
        ("", "names no task"),
    ],
)
def test_what_is_broken_is_named(tmp_path: Path, index: Any, words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_tasks(folder_with(tmp_path, index))
    assert words in str(raised.value)


def test_a_task_that_is_there_twice(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 2: the task 'shout' is there twice"):
        read_tasks(folder_with(tmp_path, SHOUT, SHOUT))


def test_a_broken_row_is_named_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"shout.jsonl has 1 broken row.*\n.*line 4: it is no"):
        read_tasks(folder_with(tmp_path, SHOUT, rows=[*ROWS, "{"]))


def test_a_folder_without_an_index(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"index.jsonl cannot be read: No such file"):
        read_tasks(tmp_path)


def test_choosing_by_name() -> None:
    a, b = (Task(name, ("d",), (("p", "r"),)) for name in "ab")
    assert chosen((a, b), ["b", "a"]) == (b, a)
    with pytest.raises(ConfigError, match="unknown task 'c'; known: a, b"):
        chosen((a, b), ["c"])


def test_the_last_rows_are_held_out_but_never_all() -> None:
    task = Task("t", ("d",), tuple((str(n), "r") for n in range(3)))
    first, last = task.held_out(2)
    assert [p for p, _ in first.rows] == ["0"]
    assert [p for p, _ in last.rows] == ["1", "2"]
    first, last = task.held_out(9)
    assert (len(first.rows), len(last.rows)) == (1, 2)


def test_thinned_descriptions_lack_some_words() -> None:
    task = Task("t", ("one two three four five six", "seven"), (("p", "r"),))
    found = thinned(task, 0.5, 3)
    assert found == thinned(task, 0.5, 3) != thinned(task, 0.5, 3, seed=1)
    assert found.descriptions[:2] == task.descriptions
    assert found.descriptions[5:] == ("seven",) * 3  # never nothing
    for text in found.descriptions[2:5]:
        assert 0 < len(text.split()) < 6
        assert set(text.split()) < set(task.descriptions[0].split())


def test_the_digest_tells_tasks_apart() -> None:
    one = Task("t", ("d",), (("p", "r"),))
    assert digest_of([one]) == digest_of([Task("t", ("d",), (("p", "r"),))])
    others = [Task("u", ("d",), one.rows), Task("t", ("e",), one.rows), one.part([("p", "q")])]
    assert len({digest_of([task]) for task in (one, *others)}) == 4


@pytest.mark.parametrize("parts", [((), (("p", "r"),)), (("d",), ())])
def test_a_task_has_descriptions_and_rows(parts: Any) -> None:
    with pytest.raises(ConfigError, match=r"the task 't' has no (description|row)"):
        Task("t", *parts)
