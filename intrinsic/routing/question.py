"""What is asked of a router: one text, or several whose meanings count by weight."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Question:
    """A readable `text`, which is what words are taken from, and its parts.

    `parts` are texts with positive weights that sum to 1; an ordinary query is its own only part.
    The meaning of a question is the unit vector of its parts' weighted sum.
    """

    text: str
    parts: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, text: str) -> Question:
        """Return the question of a readable text."""
        return cls(text, ((text, 1.0),))
