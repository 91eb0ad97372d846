"""Queries whose right adapter is known, as JSON lines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from intrinsic.errors import ConfigError

LABEL_KEYS = ("adapter", "intent", "label")
"""Under which key a line may name the right adapter; the first that it has counts."""

NOTHING_FITS = ("", "none")
"""What stands, besides null, for a query that no adapter fits."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A query and the adapter that it is for (`name` or `name@version`), None where none fits."""

    text: str
    adapter: str | None


def read_labelled(path: str | Path) -> list[Labelled]:
    """Read lines such as `{"text": "how is asthma treated", "adapter": "medical"}`.

    `intent` or `label` may stand for `adapter`; null, "" and "none" say that nothing fits. Other
    keys and empty lines are passed over. Raises `ConfigError` that names file and line for a line
    that is not of this form, and for a file that cannot be read or has no line.
    """
    file = Path(path)
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"{file} cannot be read: {why}; name a file of JSON lines in UTF-8"
        ) from error
    found = [
        _labelled(line, f"{file}:{number}") for number, line in enumerate(lines, 1) if line.strip()
    ]
    if not found:
        raise ConfigError(
            f'{file} has no queries; write a line such as {{"text": "...", "adapter": "..."}}'
        )
    return found


def _labelled(line: str, where: str) -> Labelled:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f'{where} is no JSON ({error}); write {{"text": "...", "adapter": "..."}} on one line'
        ) from error
    if not isinstance(row, dict):
        raise ConfigError(
            f'{where} holds {line.strip()!r:.80}; write {{"text": "...", "adapter": "..."}}'
        )
    text = row.get("text")
    if not isinstance(text, str) or not text.strip():
        raise ConfigError(f"{where} has the text {text!r:.80}; it must be a string with a word")
    key = next((key for key in LABEL_KEYS if key in row), None)
    if key is None:
        raise ConfigError(
            f'{where} does not say which adapter is right; add "adapter", which is null where '
            "none fits"
        )
    adapter = row[key]
    if adapter is not None and not isinstance(adapter, str):
        raise ConfigError(
            f"{where} has the {key} {adapter!r:.80}; it must be an adapter's name, or null"
        )
    _refuse_surrogates(text, "text", where)
    _refuse_surrogates(adapter or "", key, where)
    return Labelled(text, None if adapter is None or adapter in NOTHING_FITS else adapter)


def _refuse_surrogates(value: str, key: str, where: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{where} has a {key} whose character {error.start + 1} is half of a pair (such as "
            '"\\ud83d" alone); write both halves, or the character itself'
        ) from None
