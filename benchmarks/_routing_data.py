"""CLINC150 as adapters: its cards, examples from train, and valid cut into two halves.

Whatever is chosen (a weight, a threshold, a gate) is chosen on train and the half `choose`; what
is reported is measured on the half `report`, and on no row that was looked at before.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from intrinsic.card import AdapterCard

Kind = Literal["intent", "domain"]

OUT_OF_SCOPE = "out_of_scope"
EVERY = 1_000_000
"""As a number of examples: all that there are."""


@dataclass(frozen=True, slots=True)
class Row:
    """A query, and the intent and domain that are right; both empty where none fits."""

    text: str
    intent: str = ""
    domain: str = ""

    def answer(self, kind: Kind) -> str:
        """The name of the adapter that fits, empty for none."""
        return self.intent if kind == "intent" else self.domain


@dataclass(frozen=True)
class Clinc:
    """Train and valid rows, and the cards without examples by kind and name."""

    train: tuple[Row, ...]
    valid: tuple[Row, ...]
    cards: dict[tuple[Kind, str], AdapterCard]

    def texts(self) -> list[str]:
        """Every text that an encoder may be asked for, without repeats."""
        shown = [text for card in self.cards.values() for text in own_texts(card)]
        return list(dict.fromkeys(shown + [row.text for row in (*self.train, *self.valid)]))

    def registry(self, kind: Kind, k: int, seed: int) -> tuple[AdapterCard, ...]:
        """The adapters of a kind, each with `k` examples drawn from its train rows, or all."""
        pools: dict[str, list[str]] = {}
        for row in self.train:
            pools.setdefault(row.answer(kind), []).append(row.text)
        names = sorted(name for of_kind, name in self.cards if of_kind == kind)
        rng = random.Random(seed)
        return tuple(
            replace(
                self.cards[kind, name],
                examples=tuple(rng.sample(pools[name], min(k, len(pools[name])))),
            )
            for name in names
        )


def own_texts(card: AdapterCard) -> tuple[str, ...]:
    """What a card says of itself, together and apart: a router may read either."""
    return (card.sentence, card.domain, card.description)


def read(folder: Path) -> Clinc:
    """Read `clinc150_{train,valid,cards}.jsonl` of a folder."""
    cards: dict[tuple[Kind, str], AdapterCard] = {}
    for values in _lines(folder / "clinc150_cards.jsonl"):
        cards[values["kind"], values["name"]] = AdapterCard(  # type: ignore[index]
            values["name"],
            domain=values["name"].replace("_", " "),
            description=values["description"],
        )
    return Clinc(
        _rows(folder / "clinc150_train.jsonl"), _rows(folder / "clinc150_valid.jsonl"), cards
    )


def halves(rows: Sequence[Row], seed: int = 150) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Cut rows into a half to choose on and a half to report, alike in intents.

    Depends on the rows and the seed alone, not on their order.
    """
    by_intent: dict[str, list[Row]] = {}
    for row in rows:
        by_intent.setdefault(row.intent, []).append(row)
    rng = random.Random(seed)
    choose: list[Row] = []
    report: list[Row] = []
    for _, pool in sorted(by_intent.items()):
        pool.sort(key=lambda row: row.text)
        rng.shuffle(pool)
        choose += pool[: len(pool) // 2]
        report += pool[len(pool) // 2 :]
    return tuple(choose), tuple(report)


def _rows(path: Path) -> tuple[Row, ...]:
    return tuple(
        Row(values["text"])
        if OUT_OF_SCOPE in (values["intent"], values["domain"])
        else Row(values["text"], values["intent"], values["domain"])
        for values in _lines(path)
    )


def _lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]
