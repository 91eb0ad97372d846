"""The card of a merged adapter: what routing will see of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from intrinsic.card import AdapterCard

CARD_NAME = "card.toml"


def mixed_card(
    name: str, parts: Sequence[tuple[AdapterCard, float]], method: str = "exact"
) -> AdapterCard:
    """A card for a mixture of the adapters that these cards describe.

    Domains, descriptions, keywords and examples come from the adapters of positive weight, the
    heaviest first: a negative weight takes away what its adapter knows. The description ends with
    the mixture itself. Raises `ConfigError` for a name that no adapter can have.
    """
    heaviest = sorted(parts, key=lambda part: (-part[1], part[0].key))
    gained = [card for card, weight in heaviest if weight > 0]
    mixture = " + ".join(f"{weight:g} x {card.key}" for card, weight in heaviest if weight)
    said = _unique(card.description for card in gained)
    return AdapterCard(
        name=name,
        domain=", ".join(_unique(card.domain for card in gained)),
        description=" ".join([*said, f"(Mixture {mixture}, merged by {method}.)"]),
        keywords=_unique(word for card in gained for word in card.keywords),
        examples=_unique(text for card in gained for text in card.examples),
    )


def card_text(card: AdapterCard) -> str:
    """The card as the text of a `card.toml`; empty fields are left out."""
    fields = {
        "name": card.name,
        "version": card.version,
        "domain": card.domain,
        "description": card.description,
        "keywords": card.keywords,
        "examples": card.examples,
    }
    return "".join(f"{key} = {_toml(value)}\n" for key, value in fields.items() if value)


def _toml(value: str | Sequence[str]) -> str:
    # A JSON string is a TOML basic string, but for DEL and for escaped letters above U+FFFF.
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return "[\n" + "".join(f"    {_toml(one)},\n" for one in value) + "]"


def _unique(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in texts if text))
