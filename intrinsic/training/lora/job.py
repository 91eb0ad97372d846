"""What is to be trained, from what, and where to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from intrinsic.card import AdapterCard
from intrinsic.errors import ConfigError

DEFAULT_FOLDER = Path("adapters")


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """A base model, a file of rows, and the card that the adapter shall have.

    The adapter's folder is `out`, or NAME-VERSION in `adapters_dir`. `data_url` is kept as the
    place of the data instead of the file's path. `start` is the folder of an adapter to start from,
    whose rank, alpha and layers replace the plan's. Raises `ConfigError` for a
    card that is not valid, and for a name that is no name of a folder where `out` is left out.
    """

    base: str
    data: Path
    name: str
    version: str = "1.0.0"
    description: str = ""
    domain: str = ""
    keywords: tuple[str, ...] = ()
    data_url: str = ""
    start: Path | None = None
    out: Path | None = None
    adapters_dir: Path = DEFAULT_FOLDER
    resume: bool = True
    force: bool = False

    def __post_init__(self) -> None:
        key = f"{self.card().name}-{self.version}"
        odd = {os.sep, os.altsep, "\\"} & set(key) or key.startswith(".")
        if self.out is None and odd:
            raise ConfigError(
                f"{key!r} cannot be a folder's name; choose another --name, or a folder with --out"
            )

    def card(self, examples: tuple[str, ...] = ()) -> AdapterCard:
        """The adapter's card with these examples."""
        return AdapterCard(
            self.name,
            version=self.version,
            domain=self.domain,
            description=self.description,
            keywords=self.keywords,
            examples=examples,
        )

    @property
    def folder(self) -> Path:
        """Where the adapter is to be."""
        return self.out or self.adapters_dir / f"{self.name}-{self.version}"
