"""Notes in the catalog which adapters were routed to, generated with and loaded: plugin hooks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from intrinsic.errors import AdapterNotFoundError
from intrinsic.hookspecs import hookimpl
from intrinsic.receipt import Receipt
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.selection import RouteContext, Selection


class UsageNotes:
    """A plugin; each note takes microseconds, the catalog writes them in batches."""

    def __init__(self, catalog: AdapterCatalog) -> None:
        self._catalog = catalog

    @hookimpl
    def on_route(self, query: str, selections: Sequence[Selection], context: RouteContext) -> None:
        """Count a selection, with its confidence, unless the route is a trial."""
        if context.trial:
            return
        for selection in selections:
            if (version_id := self._id(selection.adapter)) is not None:
                self._catalog.usage.note_routed(version_id, selection.confidence)

    @hookimpl
    def on_adapter_loaded(self, adapter: str, load_ms: float) -> None:
        """Count a load, with its time."""
        if (version_id := self._id(adapter)) is not None:
            self._catalog.usage.note_loaded(version_id, load_ms / 1e3)

    @hookimpl
    def on_generation(self, receipt: Receipt, tokens: int, generate_ms: float) -> None:
        """Count a generation, with its tokens, for every adapter of its mixture."""
        for adapter in receipt.mixture.adapters:
            if (version_id := self._id(adapter)) is not None:
                self._catalog.usage.note_generated(version_id, tokens)

    def _id(self, adapter: str) -> str | None:
        """None for a name whose last active version was switched off meanwhile.

        Requests that run may hold a version that was deleted or renamed: that is known by its key.
        """
        with suppress(AdapterNotFoundError):
            adapter = self._catalog.live.get_adapter(adapter).key
        return self._catalog.id_ever_of(adapter)
