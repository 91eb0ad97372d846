"""The tasks of the hypernetwork's benchmark: pairs of operations in styles, and how they are split.

8 orders x 8 exchanges x 4 styles = 256 tasks. Of the 64 pairs 16 are held out and 4 are for
choosing; neither the base nor a hypernetwork sees them. Of the 44 others, 8 lack one style. Each
operation is in two held-out pairs.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from benchmarks._hypernet_mixing import mixed
from benchmarks._hypernet_words import (
    LENGTH,
    LETTERS,
    NEW_SKILL,
    NEW_TEMPLATES,
    ORDERS,
    SIGNS,
    STYLES,
    TEMPLATES,
    UNKNOWN,
    Operation,
)

SHIFTS = ((1, 4), (2, 7), (3, 6), (5, 1))
"""Which diagonals of the (shuffled) square of pairs are held out, for each split."""
MIXED = 0.7
"""How often, in half of the descriptions to learn from, an operation is said in mixed words."""
TWICE = 0.4
"""How often it is said twice there, where it is not."""
LAST = ">"
"""Ends a prompt."""


@dataclass(frozen=True)
class Composed:
    """One task: order, then exchange, then write in a style."""

    order: Operation
    sign: Operation
    style: Operation

    @property
    def name(self) -> str:
        """As `reverse-capitals-dashes`."""
        return f"{self.order.name}-{self.sign.name}-{self.style.name}"

    def answer(self, text: str) -> str:
        """What the task makes of a string."""
        return self.style.apply(self.sign.apply(self.order.apply(text)))

    def rows(self, count: int, seed: int) -> tuple[tuple[str, str], ...]:
        """Prompts and answers, always the same for a seed."""
        source = random.Random(f"rows {self.name} {seed}")
        texts = ["".join(source.choices(LETTERS, k=LENGTH)) for _ in range(count)]
        return tuple((text + LAST, self.answer(text)) for text in texts)

    def descriptions(self, count: int, seed: int, *, new: bool = False) -> tuple[str, ...]:
        """Different descriptions: in wordings for training, or in new ones alone.

        There are 256 and 16 of a task.
        """
        source = random.Random(f"words {self.name} {seed} {new}")
        found: dict[str, None] = {}
        while len(found) < count:
            found[self._description(source, new)] = None
        return tuple(found)

    def varied(self, count: int, seed: int) -> tuple[str, ...]:
        """Descriptions to learn from in which operations come in any order and in mixed words."""
        source = random.Random(f"varied {self.name} {seed}")
        return tuple(self._varied(source) for _ in range(count))

    def _varied(self, source: random.Random) -> str:
        said: list[str] = []
        for one in (self.order, self.sign, self.style):
            if source.random() < MIXED:
                said.append(mixed(one, source))
            else:
                said += source.sample(one.wordings, 1 + (source.random() < TWICE))
        source.shuffle(said)
        return " ".join(said)

    def _description(self, source: random.Random, new: bool) -> str:
        def said(operation: Operation) -> str:
            return source.choice(operation.new_wordings if new else operation.wordings)

        return source.choice(NEW_TEMPLATES if new else TEMPLATES).format(
            order=said(self.order), sign=said(self.sign), style=said(self.style)
        )


@dataclass(frozen=True)
class Split:
    """Which tasks are learned, chosen on, and held out; always the same for a number."""

    number: int

    @cached_property
    def trained(self) -> tuple[Composed, ...]:
        """What the base and every hypernetwork learn."""
        return tuple(
            Composed(*pair, style)
            for at, pair in enumerate(self._trained_pairs)
            for number, style in enumerate(STYLES)
            if not self._style_is_missing(at, number)
        )

    @cached_property
    def validation(self) -> tuple[Composed, ...]:
        """Unseen pairs to choose on."""
        return _in_all_styles(self._pairs("validation"))

    @cached_property
    def unseen_style(self) -> tuple[Composed, ...]:
        """Trained pairs in the style that they were not trained in."""
        return tuple(
            Composed(*pair, style)
            for at, pair in enumerate(self._trained_pairs)
            for number, style in enumerate(STYLES)
            if self._style_is_missing(at, number)
        )

    @cached_property
    def unseen_pair(self) -> tuple[Composed, ...]:
        """Pairs that nobody trained on, in every style."""
        return _in_all_styles(self._pairs("held out"))

    @cached_property
    def new_skill_trained(self) -> tuple[Composed, ...]:
        """The operation that the base does not know, in six orders: hypernetworks learn these."""
        return _in_all_styles((order, NEW_SKILL) for order in self._orders[2:])

    @cached_property
    def new_skill(self) -> tuple[Composed, ...]:
        """The same operation in two other orders."""
        return _in_all_styles((order, NEW_SKILL) for order in self._orders[:2])

    @cached_property
    def unknown(self) -> tuple[Composed, ...]:
        """An operation that nobody trained on, in every order."""
        return _in_all_styles((order, UNKNOWN) for order in self._orders)

    @cached_property
    def _orders(self) -> tuple[Operation, ...]:
        return tuple(random.Random(f"orders {self.number}").sample(ORDERS, len(ORDERS)))

    @cached_property
    def _signs(self) -> tuple[Operation, ...]:
        return tuple(random.Random(f"signs {self.number}").sample(SIGNS, len(SIGNS)))

    @property
    def _trained_pairs(self) -> tuple[tuple[Operation, Operation], ...]:
        return self._pairs("trained")

    def _pairs(self, part: str) -> tuple[tuple[Operation, Operation], ...]:
        return tuple(
            (order, sign)
            for row, order in enumerate(self._orders)
            for column, sign in enumerate(self._signs)
            if self._part(row, column) == part
        )

    def _part(self, row: int, column: int) -> str:
        shift = (column - row) % len(SIGNS)
        if shift in SHIFTS[self.number]:
            return "held out"
        return "validation" if shift == 0 and row % 2 == 0 else "trained"

    @staticmethod
    def _style_is_missing(pair: int, style: int) -> bool:
        return pair % 5 == 0 and pair < 40 and style == (pair // 5) % len(STYLES)


def _in_all_styles(pairs: Iterable[tuple[Operation, Operation]]) -> tuple[Composed, ...]:
    return tuple(Composed(order, sign, style) for order, sign in pairs for style in STYLES)
