"""Rows to train on, read from JSON lines: a prompt and its response, or a conversation."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from intrinsic.backends.prompt import ChatMessage
from intrinsic.training.lora.data_file import DataFile, read_lines, text_of

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


TrainingFile = DataFile[TrainingRow]


def read_rows(path: str | Path) -> TrainingFile:
    """Read lines such as `{"prompt": "...", "response": "..."}`, or `{"messages": [...]}`.

    Messages have a role and a content; the last is the assistant's, and it alone is learned.
    Other keys and empty lines are passed over. Raises `ConfigError` for a file that cannot be
    read or has no rows, and one that names every broken line up to ten and counts the others.
    """
    return read_lines(path, _row, _FORM)


def some_unasked(rows: Sequence[TrainingRow], share: float, seed: int) -> list[TrainingRow]:
    """Return the rows, about `share` of them with an empty prompt, drawn by `seed`.

    An adapter that learns a few answers so knows how likely they are before anything is asked.
    """
    draw = random.Random(seed)
    nothing = (ChatMessage(role="user", content=""),)
    return [replace(row, turns=nothing) if draw.random() < share else row for row in rows]


def _row(number: int, row: dict[str, Any]) -> TrainingRow:
    has_pair, has_messages = bool({"prompt", "response"} & set(row)), "messages" in row
    if has_pair and has_messages:
        raise ValueError("it has messages beside prompt or response; keep one of the two")
    if has_messages:
        turns = _turns(row["messages"])
        return TrainingRow(number, turns[:-1], turns[-1]["content"])
    if not has_pair and _OF_ENCODERS & set(row):
        raise ValueError(
            f"it has {' and '.join(sorted(_OF_ENCODERS & set(row)))}, as rows for a text encoder "
            "have; train one with --kind embedding, or write prompt and response"
        )
    prompt, response = (text_of(row.get(key), key) for key in ("prompt", "response"))
    return TrainingRow(number, (ChatMessage(role="user", content=prompt),), response)


def _turns(messages: object) -> tuple[ChatMessage, ...]:
    if not isinstance(messages, list) or len(messages) < 2:
        raise ValueError("messages is no list of at least a question and an answer")
    turns = []
    for nth, turn in enumerate(messages, 1):
        if not isinstance(turn, dict):
            raise ValueError(f"message {nth} is {turn!r:.60}; write a role and a content")
        role, content = (text_of(turn.get(key), f"{key} of message {nth}") for key in _KEYS)
        turns.append(ChatMessage(role=role, content=content))
    if turns[-1]["role"] != "assistant":
        raise ValueError(
            f"the last message is of role {turns[-1]['role']!r:.40}; it must be 'assistant', "
            "the answer to learn"
        )
    return tuple(turns)


_KEYS = ("role", "content")
_OF_ENCODERS = frozenset({"query", "positive", "text", "label"})
