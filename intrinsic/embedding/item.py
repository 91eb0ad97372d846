"""One text to be embedded, and what embeds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from intrinsic.mixture import Mixture
from intrinsic.routing.query_batches import Answer

DEFAULT = "default"
"""What calls name the adapter of `lora_adapter_path`."""


class Item(NamedTuple):
    """A text with the prefix before it, and the mixture of adapters that it is read under."""

    prefix: str
    text: str
    mixture: Mixture


@dataclass(frozen=True, slots=True)
class Place:
    """Where an adapter's files lie, and what multiplies all that it does."""

    path: Path
    scaling: float = 1.0


class Work(Protocol):
    """A loaded model; used by one thread at a time."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    @property
    def prompt(self) -> str:
        """What the model's own files write before a text for which nobody says it."""
        ...

    @property
    def loaded(self) -> tuple[str, ...]:
        """The names of the adapters that are on the model, least recently used first."""
        ...

    @property
    def revision(self) -> str | None:
        """Which files the default adapter was read from; None without one."""
        ...

    def encode(self, items: Sequence[Item]) -> list[Answer]:
        """A vector per item, as long as the model gives it, or the error that is its own."""
        ...

    def close(self) -> None:
        """Take the adapters off the model."""
        ...


class Loader(Protocol):
    """What adapters can be brought to ahead of their first use."""

    def load(self, adapter: str) -> None:
        """Have an adapter on the model; raises an `AdapterError`."""
        ...
