"""The card of a merged adapter: what routing will see of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from intrinsic.card import CARD_FIELDS, AdapterCard

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
    fields = ((key, getattr(card, key)) for key in CARD_FIELDS)
    return "".join(
        f"{key} = {_toml(value)}\n" for key, value in fields if value not in ("", (), None)
    )


def _toml(value: str | float | Sequence[str]) -> str:
    if isinstance(value, float):
        return repr(value)
    # A JSON string is a TOML basic string, but for DEL and for escaped letters above U+FFFF.
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return "[\n" + "".join(f"    {_toml(one)},\n" for one in value) + "]"


def _unique(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in texts if text))
