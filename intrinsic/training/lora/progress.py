"""What a training tells of its progress."""

from __future__ import annotations

from pathlib import Path


class Progress:
    """Is told how a training goes; this one keeps quiet. Inherit and override."""

    def note(self, text: str) -> None:
        """Something that people want to know, in a sentence."""

    def stepped(self, step: int, steps: int) -> None:
        """Step `step` of at most `steps` is done."""

    def learned(self, step: int, loss: float) -> None:
        """The mean training loss of the latest steps, in nats per answer token."""

    def validated(self, step: int, loss: float, *, best: bool) -> None:
        """The loss on the held-out rows, and whether it is the lowest so far."""

    def kept(self, step: int, checkpoint: Path) -> None:
        """A checkpoint is whole on disk."""
