"""Who answered a hook call, with what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from intrinsic.errors import HookError


class HookResult(NamedTuple):
    """What one plugin made of a hook call: a value (None: it passed), or an error."""

    plugin: str
    value: object
    error: HookError | None
    duration_ms: float


@dataclass(frozen=True, slots=True)
class HookOutcome:
    """What every plugin that was asked made of a hook call, in the order of asking.

    `value` is what the call came to: the first answer of `call_first`, the last of `call_chain`,
    None of `notify` and `call_sync`.
    """

    hook: str
    results: tuple[HookResult, ...] = ()
    value: object = None

    @property
    def ok(self) -> bool:
        """Whether no plugin failed."""
        return all(result.error is None for result in self.results)

    @property
    def errors(self) -> tuple[HookError, ...]:
        """The errors of the plugins that failed."""
        return tuple(result.error for result in self.results if result.error is not None)

    @property
    def values(self) -> tuple[object, ...]:
        """The answers that are not None."""
        return tuple(result.value for result in self.results if result.value is not None)

    @property
    def answered_by(self) -> str | None:
        """The plugin whose answer stands: the last that gave one, or None."""
        for result in reversed(self.results):
            if result.value is not None:
                return result.plugin
        return None
