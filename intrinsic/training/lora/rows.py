"""Rows to train on, read from JSON lines: a prompt and its response, or a conversation."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from intrinsic.backends.backend import ChatMessage
from intrinsic.errors import ConfigError

SHOWN_PROBLEMS = 10
_FORM = '{"prompt": "...", "response": "..."}'


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """What is asked, in one turn or several, and the answer to learn; `line` counts from 1."""

    line: int
    turns: tuple[ChatMessage, ...]
    response: str

    @property
    def question(self) -> str:
        """The last thing that the user said."""
        said = [turn["content"] for turn in self.turns if turn["role"] == "user"]
        return (said or [self.turns[-1]["content"]])[-1]

    @property
    def key(self) -> str:
        """The same for prompts that differ in spaces and capitals alone."""
        turns = [(turn["role"], " ".join(turn["content"].split())) for turn in self.turns]
        return json.dumps(turns, ensure_ascii=False).casefold()


@dataclass(frozen=True, slots=True)
class TrainingFile:
    """A file's rows, and the SHA-256 of the bytes that they were read from."""

    path: Path
    digest: str
    rows: tuple[TrainingRow, ...]


def read_rows(path: str | Path) -> TrainingFile:
    """Read lines such as `{"prompt": "...", "response": "..."}`, or `{"messages": [...]}`.

    Messages have a role and a content; the last is the assistant's, and it alone is learned.
    Other keys and empty lines are passed over. Raises `ConfigError` for a file that cannot be
    read or has no rows, and one that names every broken line up to ten and counts the others.
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
            rows.append(_row(number, line))
        except ValueError as error:
            problems.append((number, str(error)))
    refuse_broken(file, problems)
    if not rows:
        raise ConfigError(f"{file} has no rows; write a line such as {_FORM} for each")
    return TrainingFile(file, hashlib.sha256(data).hexdigest(), tuple(rows))


def some_unasked(rows: Sequence[TrainingRow], share: float, seed: int) -> list[TrainingRow]:
    """Return the rows, about `share` of them with an empty prompt, drawn by `seed`.

    An adapter that learns a few answers so knows how likely they are before anything is asked.
    """
    draw = random.Random(seed)
    nothing = (ChatMessage(role="user", content=""),)
    return [replace(row, turns=nothing) if draw.random() < share else row for row in rows]


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


def _row(number: int, line: bytes) -> TrainingRow:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 (byte {error.start + 1} of the line)") from None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"it is no JSON ({error.msg} at character {error.pos + 1}); write {_FORM} on one line"
        ) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(row, dict):
        raise ValueError(f"it holds {line.decode().strip()!r:.60}; write {_FORM}")
    has_pair, has_messages = bool({"prompt", "response"} & set(row)), "messages" in row
    if has_pair and has_messages:
        raise ValueError("it has messages beside prompt or response; keep one of the two")
    if has_messages:
        turns = _turns(row["messages"])
        return TrainingRow(number, turns[:-1], turns[-1]["content"])
    prompt, response = (_text(row.get(key), key) for key in ("prompt", "response"))
    return TrainingRow(number, (ChatMessage(role="user", content=prompt),), response)


def _turns(messages: object) -> tuple[ChatMessage, ...]:
    if not isinstance(messages, list) or len(messages) < 2:
        raise ValueError("messages is no list of at least a question and an answer")
    turns = []
    for nth, turn in enumerate(messages, 1):
        if not isinstance(turn, dict):
            raise ValueError(f"message {nth} is {turn!r:.60}; write a role and a content")
        role, content = (_text(turn.get(key), f"{key} of message {nth}") for key in _KEYS)
        turns.append(ChatMessage(role=role, content=content))
    if turns[-1]["role"] != "assistant":
        raise ValueError(
            f"the last message is of role {turns[-1]['role']!r:.40}; it must be 'assistant', "
            "the answer to learn"
        )
    return tuple(turns)


_KEYS = ("role", "content")


def _text(value: object, what: str) -> str:
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
