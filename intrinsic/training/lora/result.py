"""What a training made: a folder, its card and provenance, and what it gained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from intrinsic.card import AdapterCard
from intrinsic.registry.provenance import Provenance


class Scored(Protocol):
    """What a model was worth on held-out rows."""

    @property
    def loss(self) -> float:
        """The mean loss; lower is better."""
        ...

    @property
    def rows(self) -> int:
        """How many rows there were."""
        ...

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        ...


ScoresT = TypeVar("ScoresT", bound=Scored)


@dataclass(frozen=True, slots=True)
class TrainedAdapter(Generic[ScoresT]):
    """An adapter's folder on disk, with what is known of it.

    `base` and `adapter` were scored on the same held-out rows. `steps` were made in all, of which
    `best_step` is the one that was kept; `resumed_from` is the step that this run began at, 0 for
    a run from the start. `shortened` prompts lost their beginning, or texts their end.
    """

    folder: Path
    card: AdapterCard
    provenance: Provenance
    base: ScoresT
    adapter: ScoresT
    train_rows: int
    validation_rows: int
    shortened: int
    parameters: int
    steps: int
    best_step: int
    resumed_from: int
    seconds: float

    @property
    def gain(self) -> float:
        """By how much the loss is lower than the base model's; nats per answer token for text."""
        return self.base.loss - self.adapter.loss

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "path": str(self.folder),
            "name": self.card.name,
            "version": self.card.version,
            "base": self.base.as_json(),
            "adapter": self.adapter.as_json(),
            "gain": self.gain,
            "rows": {
                "train": self.train_rows,
                "validation": self.validation_rows,
                "shortened": self.shortened,
            },
            "parameters": self.parameters,
            "steps": self.steps,
            "best_step": self.best_step,
            "resumed_from": self.resumed_from,
            "seconds": self.seconds,
            "examples": list(self.card.examples),
            "provenance": self.provenance.as_json(),
        }
