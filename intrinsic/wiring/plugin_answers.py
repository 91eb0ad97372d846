"""What plugins answer to routing hooks: checked, and with reasons that say what they changed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeGuard

from intrinsic.selection import RouteContext, Selection

logger = logging.getLogger("intrinsic.wiring")


def are_selections(value: object) -> TypeGuard[Sequence[Selection]]:
    """Whether a value is a list of selections, or a tuple."""
    return isinstance(value, list | tuple) and all(isinstance(v, Selection) for v in value)


def checked(value: object, hook: str) -> list[Selection] | None:
    """Return a plugin's answer; one that is no list of selections is logged and passed over."""
    if are_selections(value):
        return list(value)
    if value is not None:
        logger.warning("a plugin's %s answered %r, no list of Selection: passed over", hook, value)
    return None


def allowed(selections: Sequence[Selection], context: RouteContext) -> list[Selection]:
    """Return those that the context does not exclude, by name or by `name@version`."""
    if not context.exclude:
        return list(selections)
    named = [(s, {s.adapter, s.adapter.partition("@")[0]}) for s in selections]
    return [selection for selection, names in named if not names & context.exclude]


def explained(
    selections: Sequence[Selection], before: Sequence[Selection], plugins: str
) -> list[Selection]:
    """Return the selections with reasons that name who changed what, where they do not say why.

    A reason that a plugin wrote stands.
    """
    was = {selection.adapter: selection for selection in before}
    return [_with_reason(one, was.get(one.adapter), plugins) for one in selections]


def _with_reason(selection: Selection, was: Selection | None, plugins: str) -> Selection:
    if was is None:
        return replace(selection, reason=selection.reason or f"added by plugin {plugins}")
    if selection.reason not in ("", was.reason):
        return selection
    changes = [
        f"{name} {old:.2f} to {new:.2f}"
        for name, old, new in (
            ("confidence", was.confidence, selection.confidence),
            ("weight", was.weight, selection.weight),
        )
        if old != new
    ]
    notes = [was.reason, f"changed by plugin {plugins}: {', '.join(changes)}" if changes else ""]
    return replace(selection, reason="; ".join(note for note in notes if note))
