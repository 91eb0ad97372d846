"""Where an adapter comes from: what it was trained on, how, and with which libraries."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from intrinsic.errors import ConfigError

PROVENANCE_FILE = "provenance.json"
"""Beside an adapter's config; an adapter that is registered from its folder brings it along."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The rows that an adapter was trained on; `digest` is the SHA-256 of the file's bytes."""

    name: str
    digest: str = ""
    rows: int | None = None
    location: str = ""  # a path or a URL


@dataclass(frozen=True, slots=True)
class Provenance:
    """How an adapter was made; what is not known is left empty.

    Raises `ConfigError` for a value of another type.
    """

    data: TrainingData | None = None
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    base_model: str = ""
    base_revision: str = ""
    seed: int | None = None
    libraries: Mapping[str, str] = field(default_factory=dict)
    final_loss: float | None = None
    trained_at: str = ""  # ISO 8601 with the offset from UTC
    trainer: str = ""  # "intrinsic train" where that made it

    def __post_init__(self) -> None:
        for name in ("base_model", "base_revision", "trained_at", "trainer"):
            _demand(isinstance(getattr(self, name), str), name, getattr(self, name), "a string")
        for name in ("hyperparameters", "libraries"):
            value = getattr(self, name)
            known = isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
            _demand(known, name, value, "an object")
        is_number = isinstance(self.final_loss, int | float) and math.isfinite(self.final_loss)
        _demand(self.final_loss is None or is_number, "final_loss", self.final_loss, "a number")
        is_whole = isinstance(self.seed, int) and not isinstance(self.seed, bool)
        _demand(self.seed is None or is_whole, "seed", self.seed, "a whole number")

    def as_json(self) -> dict[str, Any]:
        """Return plain values, without what is not known."""
        return {key: value for key, value in asdict(self).items() if value not in (None, "", {})}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Provenance:
        """Build one from what `as_json` returns; raise `ConfigError` for unknown fields."""
        known = [one.name for one in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise ConfigError(
                f"the provenance has unknown fields {unknown}; known: {', '.join(known)}"
            )
        given = dict(values)
        if given.get("data") is not None:
            try:
                given["data"] = TrainingData(**given["data"])
            except TypeError as error:
                raise ConfigError(
                    f"the provenance's data is {given['data']!r:.80}; "
                    "it must be an object of name, digest, rows and location"
                ) from error
        return cls(**given)

    def save(self, folder: Path) -> Path:
        """Write the file `provenance.json` into an adapter's folder and return it."""
        path = folder / PROVENANCE_FILE
        path.write_text(json.dumps(self.as_json(), indent=2) + "\n", encoding="utf-8")
        return path

    @classmethod
    def read(cls, folder: Path) -> Provenance | None:
        """Return what a folder's `provenance.json` says, None without one.

        Raises `ConfigError` where it cannot be read.
        """
        path = folder / PROVENANCE_FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path} cannot be read as JSON: {error}") from None
        if not isinstance(values, dict):
            raise ConfigError(f"{path} holds {type(values).__name__}, not an object")
        return cls.from_json(values)


def _demand(holds: bool, name: str, value: object, what: str) -> None:
    if not holds:
        raise ConfigError(f"{name} of the provenance is {value!r:.80}; it must be {what}")
