"""Described tasks: what a hypernetwork is trained on, read from a folder of JSON lines."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from intrinsic.errors import ConfigError
from intrinsic.training.lora.data_file import refuse_broken
from intrinsic.training.lora.rows import read_rows

INDEX_NAME = "index.jsonl"
_HALF = re.compile("[\ud800-\udfff]")
_FORM = '{"task": "NAME", "instruction": "what it is about", "file": "NAME.jsonl"}'


@dataclass(frozen=True, slots=True)
class Task:
    """A task by its name, the ways to describe it, and its rows of prompt and response.

    Where these are a part of all, the number of the `first_row` is kept.
    """

    name: str
    descriptions: tuple[str, ...]
    rows: tuple[tuple[str, str], ...]
    split: str = ""
    first_row: int = 1

    def __post_init__(self) -> None:
        for what, found in (("description", self.descriptions), ("row", self.rows)):
            if not found:
                raise ConfigError(f"the task {self.name!r} has no {what}; give it at least one")

    def part(self, rows: Sequence[tuple[str, str]]) -> Task:
        """The same task with these rows."""
        return replace(self, rows=tuple(rows))

    def cut_at(self, row: int) -> tuple[Task, Task]:
        """The task with the rows before one, counted from 0, and with those from it on."""
        after = replace(self, rows=self.rows[row:], first_row=self.first_row + row)
        return self.part(self.rows[:row]), after

    def held_out(self, count: int) -> tuple[Task, Task]:
        """The task with its first rows, and with its last `count`, but never all.

        Raises `ConfigError` for a task of one row.
        """
        cut = max(1, len(self.rows) - count)
        return self.cut_at(cut)


def read_tasks(folder: str | Path) -> tuple[Task, ...]:
    """Read `index.jsonl`, a line for each task, and the files of rows that it names.

    A line has `task`, `file`, and `instruction` or a list of `descriptions`; `split` may name the
    part that a task belongs to. Rows are those of `intrinsic train`. An instruction that stands in
    front of a prompt is taken off: it reaches the model through the weights alone. Rows of more
    turns than two are refused. Raises `ConfigError` with file and line.
    """
    folder = Path(folder)
    index = folder / INDEX_NAME
    try:
        lines = index.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ConfigError(
            f"{index} cannot be read: {why}; write a line such as {_FORM} for each task"
        ) from error
    tasks: dict[str, Task] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{index} line {number}"
        task = _task(folder, line, where)
        if task.name in tasks:
            raise ConfigError(f"{where}: the task {task.name!r} is there twice; rename one")
        tasks[task.name] = task
    if not tasks:
        raise ConfigError(f"{index} names no task; write a line such as {_FORM} for each")
    return tuple(tasks.values())


def chosen(tasks: Sequence[Task], names: Iterable[str]) -> tuple[Task, ...]:
    """The tasks of these names, in their order. Raises `ConfigError` for one that is not there."""
    known = {task.name: task for task in tasks}
    unknown = [name for name in names if name not in known]
    if unknown:
        listed = ", ".join(sorted(known)[:20]) + (", ..." if len(known) > 20 else "")
        raise ConfigError(f"unknown task {unknown[0]!r}; known: {listed}")
    return tuple(known[name] for name in names)


def thinned(task: Task, share: float, variants: int, seed: int = 0) -> Task:
    """The task with so many more of each description, each word left out with chance `share`.

    Trained on them, a network lets no single word say it all, so that other wordings fare better.
    """
    draw = random.Random(f"{seed} {task.name}")
    more = [
        " ".join(kept or words)
        for words in map(str.split, task.descriptions)
        for _ in range(variants)
        for kept in [[word for word in words if draw.random() >= share]]
    ]
    return replace(task, descriptions=(*task.descriptions, *more))


def digest_of(tasks: Iterable[Task]) -> str:
    """SHA-256 over names, descriptions and rows, in hex."""
    found = hashlib.sha256()
    for task in tasks:
        text = json.dumps([task.name, task.descriptions, task.rows])
        found.update(text.encode() + b"\n")
    return found.hexdigest()


def _task(folder: Path, line: str, where: str) -> Task:
    try:
        given: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        why = getattr(error, "msg", None) or error
        raise ConfigError(f"{where}: it is no JSON ({why}); write {_FORM}") from None
    if not isinstance(given, dict):
        raise ConfigError(f"{where}: it holds {line.strip()!r:.60}; write {_FORM}")
    name, file = (_text(given.get(key), key, where) for key in ("task", "file"))
    descriptions = _descriptions(given, where)
    split = given.get("split")
    rows = _rows(folder / file, descriptions)
    return Task(name, descriptions, rows, "" if split is None else _text(split, "split", where))


def _rows(file: Path, descriptions: Sequence[str]) -> tuple[tuple[str, str], ...]:
    rows = read_rows(file).rows
    why = "it has more turns than a prompt and a response; a described task has these two alone"
    longer = [row for row in rows if [turn["role"] for turn in row.turns] != ["user"]]
    refuse_broken(file, [(row.line, why) for row in longer])
    return tuple((_without(descriptions, row.question), row.response) for row in rows)


def _descriptions(given: dict[str, Any], where: str) -> tuple[str, ...]:
    many = given.get("descriptions")
    if many is None:
        return (_text(given.get("instruction"), "instruction", where),)
    if not isinstance(many, list) or not many:
        raise ConfigError(f"{where}: descriptions is {many!r:.60}; write a list of texts")
    return tuple(_text(one, "a description", where) for one in many)


def _text(value: object, what: str, where: str) -> str:
    # Half a character cannot be written, and no file's name holds NUL.
    sound = isinstance(value, str) and "\0" not in value and not _HALF.search(value)
    if not isinstance(value, str) or not sound or not value.strip():
        raise ConfigError(f"{where}: {what} is {value!r:.60}; it must be a text; write {_FORM}")
    return value


def _without(descriptions: Sequence[str], prompt: str) -> str:
    for description in descriptions:
        rest = prompt.removeprefix(f"{description}\n")
        if rest != prompt and rest.strip():
            return rest
    return prompt
