"""A change to an adapter card, as the command line says it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from intrinsic.card import AdapterCard
from intrinsic.errors import ConfigError

Lists = Mapping[str, Sequence[str]]

_NO_THRESHOLD = "none"


@dataclass(frozen=True, slots=True)
class CardEdit:
    """Fields that are replaced, and what is added to and removed from lists, by field."""

    replaced: Mapping[str, str | float | None]
    added: Lists
    removed: Lists

    @classmethod
    def of(
        cls,
        *,
        fields: Mapping[str, str | None],
        threshold: str | None,
        added: Mapping[str, Sequence[str] | None],
        removed: Mapping[str, Sequence[str] | None],
        examples_from: Sequence[Path],
    ) -> CardEdit:
        """Build one from what was given; None leaves a field. Raises `ConfigError`."""
        replaced: dict[str, str | float | None] = {
            key: value.strip() for key, value in fields.items() if value is not None
        }
        if threshold is not None:
            replaced["threshold"] = _number(threshold)
        more = {key: [_word(key, text) for text in texts or ()] for key, texts in added.items()}
        for file in examples_from:
            more.setdefault("examples", []).extend(_lines(file))
        less = {key: list(texts or ()) for key, texts in removed.items()}
        return cls(replaced, more, less)

    def applied(self, card: AdapterCard) -> AdapterCard:
        """Return the changed card; what is there already is not added again.

        Raises `ConfigError` where the card does not have what is to be removed, and for values
        that no card can have.
        """
        values: dict[str, Any] = dict(self.replaced)
        for key in self.added.keys() | self.removed.keys():
            texts = list(getattr(card, key))
            for text in self.removed.get(key, ()):
                _remove(texts, text, key, card)
            there = set(texts)
            new = (text for text in dict.fromkeys(self.added.get(key, ())) if text not in there)
            values[key] = (*texts, *new)
        return replace(card, **values)


def _remove(texts: list[str], text: str, key: str, card: AdapterCard) -> None:
    if text in texts:
        texts[:] = [one for one in texts if one != text]
        return
    near = difflib.get_close_matches(text, texts, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(
        f"{text!r:.80} is none of the {key} of adapter {card.key!r}{hint}; "
        f"see them with 'intrinsic adapters card {card.name}'"
    )


def _word(key: str, text: str) -> str:
    if not text.strip():
        raise ConfigError(f"{text!r} cannot be added to {key}; give it a word")
    return text.strip()


def _number(text: str) -> float | None:
    if text.strip().lower() == _NO_THRESHOLD:
        return None
    try:
        return float(text)
    except ValueError:
        raise ConfigError(
            f"threshold is {text!r}; it must be a number in [0, 1], or {_NO_THRESHOLD!r}"
        ) from None


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"{file} cannot be read: {why}; name a text file in UTF-8, one example per line"
        ) from error
    return [line.strip() for line in text.split("\n") if line.strip()]
