"""The hypernetwork as a plugin: it answers where no stored adapter fits, or is told to."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import anyio

from intrinsic.hookspecs import hookimpl
from intrinsic.hypernet.expert import NAME, InstantExpert, Refusal
from intrinsic.selection import RouteContext, Selection

logger = logging.getLogger("intrinsic.hypernet")


class HypernetPlugin:
    """Adds the expert's adapter to what routing chose; register it by hand, it is off otherwise.

    It speaks after the other plugins. What is refused, or fails, changes nothing, and the receipt
    says why. In shadow mode only the gate is asked. A context that excludes `hypernet` is obeyed.
    """

    def __init__(self, expert: InstantExpert) -> None:
        self.expert = expert

    @hookimpl(trylast=True)
    async def adjust_selections(
        self, query: str, selections: Sequence[Selection], context: RouteContext
    ) -> list[Selection] | None:
        """The generated adapter alone, or None where the choice stands."""
        if NAME in context.exclude or (selections and not self.expert.options.prefer):
            return None
        try:
            if context.trial:
                verdict = await self.expert.judge(query)
                would = "would generate" if verdict.admitted else "would refuse"
                context.note(
                    NAME, f"shadow mode, nothing was generated; it {would}: {verdict.reason}"
                )
                return None
            return await self._selected(query, context)
        except anyio.get_cancelled_exc_class():
            context.note(NAME, "cut off before it was done")
            raise
        except Exception as error:
            logger.warning("no adapter is generated, the choice stands: %s", error)
            context.note(NAME, f"{type(error).__name__}: {error}")
            return None

    async def _selected(self, query: str, context: RouteContext) -> list[Selection] | None:
        example_of = self.expert.options.example_of
        example = None if example_of is None else example_of(query, context)
        found = await self.expert.select(query, example)
        if isinstance(found, Refusal):
            context.note(NAME, found.why)
            return None
        return [found]
