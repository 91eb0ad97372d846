"""Values from a file, as a message may show them: never endless."""

from __future__ import annotations

_MAX_NAME = 200


def short(value: object, most: int = 80) -> str:
    """A value for a message, cut where its text is longer than `most` characters."""
    # Only the beginning of a long text is written out, whose escapes can make it longer still.
    text = repr(value[: most + 1] if isinstance(value, str | bytes) else value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def named(value: object) -> str:
    """A tensor's key or shape for a message, cut where it is longer than any sound one."""
    return short(value, _MAX_NAME)
