"""One known adapter: its card, where its files lie, and for which base model it was made."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from intrinsic.card import CARD_FIELDS, AdapterCard
from intrinsic.errors import CheckpointError, ConfigError

CONFIG_NAME = "adapter_config.json"


@dataclass(frozen=True, slots=True)
class AdapterEntry:
    """An adapter that the registry knows; its weights are read only when it is loaded.

    One that was `made` in memory has no files: `path` is the name that a backend has it under.
    """

    card: AdapterCard
    path: Path
    base_model: str = ""
    made: bool = False

    @property
    def name(self) -> str:
        """The adapter's name; several versions may share it."""
        return self.card.name

    @property
    def key(self) -> str:
        """`name@version`, which names exactly this entry."""
        return self.card.key


def read_entry(folder: Path) -> AdapterEntry:
    """Read config and card of an adapter's folder.

    The card is `card.toml` or `card.json` beside the config, or extra keys of the config itself;
    what none of them says, or says with null, is left empty, and the name is the folder's. Raises
    `CheckpointError` or `ConfigError` naming the file.
    """
    try:
        return _read(folder)
    except RecursionError:
        raise CheckpointError(
            f"{CONFIG_NAME} or the card in {folder} is nested too deeply to be read"
        ) from None


def _read(folder: Path) -> AdapterEntry:
    config = _read_json(folder / CONFIG_NAME)
    said = [{key: config[key] for key in CARD_FIELDS if key in config}, _read_card(folder)]
    fields = {key: value for part in said for key, value in part.items() if value is not None}
    fields.setdefault("name", folder.name)
    if unknown := sorted(set(fields) - set(CARD_FIELDS)):
        raise ConfigError(
            f"card of {folder} has unknown fields {unknown}; known: {', '.join(CARD_FIELDS)}"
        )
    card = AdapterCard(**{key: _field(key, value) for key, value in fields.items()})
    return AdapterEntry(card, folder, str(config.get("base_model_name_or_path") or ""))


def with_fields(entry: AdapterEntry, fields: Mapping[str, object]) -> AdapterEntry:
    """Return the entry with some fields of its card replaced; None leaves a field."""
    given: dict[str, Any] = {
        key: _field(key, value) for key, value in fields.items() if value is not None
    }
    return replace(entry, card=replace(entry.card, **given))


def _read_card(folder: Path) -> dict[str, object]:
    toml = folder / "card.toml"
    try:
        return tomllib.loads(_text(toml))
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise ConfigError(f"{toml} cannot be read as TOML: {error}") from None
    path = folder / "card.json"
    return _read_json(path) if path.exists() else {}


def _read_json(path: Path) -> dict[str, object]:
    try:
        value = json.loads(_text(path))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path.parent} has no {path.name}; pass a folder that PEFT's save_pretrained wrote"
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds {type(value).__name__}, not an object")
    return value


def _text(path: Path) -> str:
    """The text of a file; a pipe or a device, which may never end, is an OSError."""
    if path.exists() and not path.is_file():
        raise OSError("it is no regular file")
    return path.read_text(encoding="utf-8")


def _field(key: str, value: object) -> Any:  # noqa: ANN401
    """TOML and JSON say numbers where a card says text, and lists where it says tuples."""
    if key == "threshold":
        return value
    if isinstance(value, bool | int | float):
        return str(value)
    return tuple(value) if isinstance(value, list) else value
