"""Which texts the base and each adapter see.

Rows are split in the data folder already (`train`, `valid`); standard-library functions are split
by module. Of the domains in `GENERAL` the base sees most train rows: plain English to it, with
questions that are answered. Of each other domain it sees `BASE_CHAT_PERCENT` of the train rows as
question and answer and `BASE_PASSAGE_PERCENT` as bare answers; an adapter sees all of its domain's
train rows but the few that `dev_split` keeps apart to choose by. No valid row reaches either.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from intrinsic.training import stdlib
from intrinsic.training.stdlib import Split, bucket

DOMAINS = ("medical", "legal", "coding", "creative", "math", "cooking")
GENERAL = ("math", "cooking")
GENERAL_CHAT_PERCENT = 60
BASE_CHAT_PERCENT = 5
BASE_PASSAGE_PERCENT = 10
DEV_PERCENT = 4
CODE_CHUNK_CHARS = 4000
CODE_PROMPT = "Write a python function. {summary}."


@dataclass(frozen=True)
class Row:
    """One question and its reference answer."""

    id: str
    prompt: str
    response: str


@dataclass(frozen=True)
class Mix:
    """The base's documents. `rows` and `general` are chats, `passages`, `prose` and `code` bare."""

    rows: tuple[Row, ...]
    general: tuple[Row, ...]
    passages: tuple[str, ...]
    prose: tuple[str, ...]
    code: tuple[str, ...]


def read_rows(path: Path) -> list[Row]:
    """Rows of a JSON-lines file with `id`, `prompt` and `response`; other keys are ignored."""
    with path.open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    return [Row(r["id"], r["prompt"].strip(), r["response"].strip()) for r in records]


def domain_rows(data: Path, domain: str, split: Split) -> list[Row]:
    """All rows of a domain; `coding` adds the standard library's functions of the same split."""
    if domain not in DOMAINS:
        raise ValueError(f"unknown domain {domain!r}; known: {', '.join(DOMAINS)}")
    if domain == "coding":
        return read_rows(data / domain / f"mbpp_{split}.jsonl") + function_rows(split)
    return read_rows(data / domain / f"{split}.jsonl")


def function_rows(split: Split) -> list[Row]:
    """Standard-library functions as rows: docstring summary asked, bare function answered."""
    return [_function_row(function) for function in stdlib.functions(split)]


def adapter_rows(data: Path, domain: str) -> list[Row]:
    """What the domain's adapter is trained on: its train rows but those of `dev_split`.

    `coding` adds the library's functions without docstrings, asked for by the words of their name.
    """
    train, _ = dev_split(domain_rows(data, domain, "train"))
    if domain == "coding":
        train += [_function_row(function) for function in stdlib.undocumented()]
    return train


def _function_row(function: stdlib.Function) -> Row:
    prompt = CODE_PROMPT.format(summary=function.summary)
    return Row(f"stdlib-{function.qualified_name}", prompt, function.source)


def dev_split(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Rows to train on, and the few that plans are chosen by, so that valid stays blind."""
    train = [row for row in rows if bucket(f"dev:{row.id}") >= DEV_PERCENT]
    return train, [row for row in rows if bucket(f"dev:{row.id}") < DEV_PERCENT]


def base_share(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The rows of a domain that the base sees: (as question and answer, as bare answers)."""
    chat = [row for row in rows if bucket(row.id) < BASE_CHAT_PERCENT]
    last = BASE_CHAT_PERCENT + BASE_PASSAGE_PERCENT
    return chat, [row for row in rows if BASE_CHAT_PERCENT <= bucket(row.id) < last]


def base_mix(data: Path) -> Mix:
    """Everything that the base is trained on, once, in a fixed order."""
    rows: list[Row] = []
    general: list[Row] = []
    passages: list[str] = []
    for domain in DOMAINS:
        known, _ = dev_split(domain_rows(data, domain, "train"))
        if domain in GENERAL:
            general += [row for row in known if bucket(row.id) < GENERAL_CHAT_PERCENT]
            continue
        chat, bare = base_share(known)
        rows += chat
        passages += [row.response for row in bare]
    prose = [*stdlib.topics(), *stdlib.docstrings("train")]
    return Mix(tuple(rows), tuple(general), tuple(passages), tuple(prose), tuple(_code_chunks()))


def tokenizer_texts(data: Path, chars_per_domain: int = 1_200_000) -> list[str]:
    """Texts for the tokenizer: train rows of every domain in equal measure, prose and code."""
    mix = base_mix(data)
    texts = [*_first_chars(mix.prose, chars_per_domain), *_first_chars(mix.code, chars_per_domain)]
    for domain in DOMAINS:
        rows = domain_rows(data, domain, "train")
        random.Random(0).shuffle(rows)
        texts += _first_chars([f"{r.prompt}\n{r.response}" for r in rows], chars_per_domain)
    return texts


def _code_chunks() -> list[str]:
    # A third of the train modules: the adapter finds new code in the others.
    files = stdlib.source_files("train")
    chosen = [path for path in files if bucket(f"code:{stdlib.module_name(path)}", 3) == 0]
    chunks: list[str] = []
    for path in chosen:
        text = path.read_text(encoding="utf-8", errors="replace")
        chunks += [text[at : at + CODE_CHUNK_CHARS] for at in range(0, len(text), CODE_CHUNK_CHARS)]
    return chunks


def _first_chars(texts: Sequence[str], limit: int) -> list[str]:
    taken: list[str] = []
    room = limit
    for text in texts:
        if room <= 0:
            break
        taken.append(text)
        room -= len(text)
    return taken
