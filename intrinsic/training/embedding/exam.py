"""What is held out, and which texts the held-out queries must find."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from intrinsic.errors import ConfigError
from intrinsic.training.embedding.pairs import Pair, batches, by_label, pair_of
from intrinsic.training.embedding.rows import LabelledRow, PairRow
from intrinsic.training.lora.data_file import DataFile, folded
from intrinsic.training.lora.split import split

_TEXTS_OF_A_LABEL = 5
_PASSAGES = 2000


@dataclass(frozen=True, slots=True)
class Exam:
    """Held-out pairs in batches for the loss, and queries with the passages to find.

    `right` has for each query the places of the passages that are right.
    """

    batches: list[list[Pair]]
    queries: tuple[str, ...]
    passages: tuple[str, ...]
    right: tuple[frozenset[int], ...]
    rows: int


def cut_pairs(
    data: DataFile[PairRow], share: float, seed: int, size: int
) -> tuple[list[PairRow], Exam]:
    """Rows to learn, and an exam on those of queries that are not among them.

    The passages are those of the held-out rows and, up to 2,000, of the others. Raises
    `ConfigError` for a single query.
    """
    train, held = split(data, share, seed, "query")
    positives = [row.positive for row in held] + [row.negative for row in held if row.negative]
    others = list(dict.fromkeys(row.positive for row in train))
    mixed = random.Random(seed).sample(others, min(len(others), _PASSAGES))
    texts = {folded(text): text for text in reversed([*positives, *mixed])}
    place = {key: at for at, key in enumerate(texts)}
    answers: dict[str, set[int]] = {}
    for row in held:
        answers.setdefault(row.key, set()).add(place[folded(row.positive)])
    queries = {row.key: row.query for row in held}
    exam = Exam(
        batches([pair_of(row) for row in held], size),
        tuple(queries.values()),
        tuple(texts.values()),
        tuple(frozenset(answers[key]) for key in queries),
        len(held),
    )
    return train, exam


def cut_labelled(
    data: DataFile[LabelledRow], share: float, seed: int, size: int
) -> tuple[list[LabelledRow], Exam]:
    """Rows to learn, and an exam on texts that are not among them.

    Each is held against a text to learn of its own label, and must find one of at most five of each
    label, drawn by `seed`. A label keeps two texts to learn. Raises `ConfigError` where that leaves
    nothing to hold out, or fewer than two labels to tell apart.
    """
    train, held = split(data, share, seed, "text")
    kept = by_label(train)
    few = {row.label for row in held if len(kept.get(row.label, ())) < 2}
    train = sorted([*train, *(row for row in held if row.label in few)], key=lambda row: row.line)
    held = [row for row in held if row.label not in few]
    kept = by_label(train)
    draw = random.Random(seed)
    shown = {
        label: draw.sample(texts, min(len(texts), _TEXTS_OF_A_LABEL))
        for label, texts in sorted(kept.items())
    }
    passages = [(label, text) for label, texts in shown.items() for text in texts]
    places: dict[str, set[int]] = {}
    for at, (label, _) in enumerate(passages):
        places.setdefault(label, set()).add(at)
    pairs = [
        Pair(row.text, draw.choice(shown[row.label]), None, frozenset([row.label])) for row in held
    ]
    exam = Exam(
        batches(pairs, size),
        tuple(row.text for row in held),
        tuple(text for _, text in passages),
        tuple(frozenset(places[row.label]) for row in held),
        len(held),
    )
    if sum(len(texts) > 1 for texts in kept.values()) < 2:
        raise ConfigError(
            f"{data.path} has too few labels with two texts; training needs at least 2 labels, and "
            "3 texts of each, two to learn and one to be measured on"
        )
    return train, exam


def demand_company(path: Path, learned: list[list[Pair]], exam: Exam) -> None:
    """Raise `ConfigError` where no two pairs can be told from each other, on either side."""
    if not learned:
        raise ConfigError(
            f"{path} has no two pairs to learn without a text or label in common; a pair is told "
            "from the others of its step, so write rows of other texts too"
        )
    if not exam.batches:
        raise ConfigError(
            f"{path}: no two of the {exam.rows} held-out rows are without a text or label in "
            "common, so nothing can be measured; raise --validation-share, or write more rows"
        )
