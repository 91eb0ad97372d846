"""The handler of `DYNAMIC_LORA`: route the memories, bring the mixture, return the receipt."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from intrinsic.bus import MemoryBus
from intrinsic.errors import IntrinsicError
from intrinsic.events import MemoryEvent, by_relevance
from intrinsic.manager import AdapterManager
from intrinsic.receipt import Receipt, Skipped
from intrinsic.registry import AdapterRegistry
from intrinsic.selection import RouteContext, Selection
from intrinsic.wiring.plugin_router import PluginRouter
from intrinsic.wiring.runners_up import RunnersUp
from intrinsic.wiring.wishes import RouteWishes

logger = logging.getLogger("intrinsic.wiring")


class DynamicLoraHandler:
    """Turns an event into a receipt. A router that fails costs the adapters, not the request.

    An event's metadata may have `top_k`, `threshold` and `exclude`, see `RouteWishes`.
    """

    def __init__(self, bus: MemoryBus, manager: AdapterManager, router: PluginRouter) -> None:
        self._bus = bus
        self._manager = manager
        self._router = router
        count = manager.options.prefetch_runners_up
        self._runners_up = RunnersUp(bus, manager, router, count=count)

    async def __call__(self, event: MemoryEvent) -> Receipt:
        """Route, apply, say what was done; the receipt's request id is the event's, or its id.

        Raises `EventError` for metadata that is not valid; then nothing was routed.
        """
        start = time.perf_counter()
        selections, skipped = await self._select(event)
        return await self._manager.apply(
            selections,
            request_id=event.context.request_id or event.id,
            event_id=event.id,
            shadow=self._bus.is_shadow(event),
            route_ms=(time.perf_counter() - start) * 1e3,
            skipped=skipped,
        )

    async def _select(self, event: MemoryEvent) -> tuple[list[Selection], list[Skipped]]:
        wishes = RouteWishes.of(event.metadata)
        named, skipped = self._named(event)
        if named:
            return named, skipped
        cards = [entry.card for entry in self._manager.registry.list_adapters()]
        context = RouteContext(
            event.context.request_id,
            event.context.session_id,
            event.vectors,
            wishes.exclude,
            wishes.threshold,
            trial=self._bus.is_shadow(event),
            notes=[],
        )
        try:
            selections = await self._router.route(
                event.text, candidates=cards, top_k=wishes.top_k, context=context
            )
        except Exception as error:
            logger.warning("routing failed, the base model answers: %s", error)
            failed = Skipped("router", f"{type(error).__name__}: {error}")
            return [], [*skipped, *_noted(context), failed]
        if not context.trial:
            self._runners_up.note(event.text, cards, context, selections)
        return selections, [*skipped, *_noted(context)]

    def _named(self, event: MemoryEvent) -> tuple[list[Selection], list[Skipped]]:
        """Adapters that memories name by path; one that is not known yet is registered."""
        named: dict[str, Selection] = {}
        skipped: list[Skipped] = []
        for vector in by_relevance(event.vectors):
            if vector.lora_adapter_path is None:
                continue
            try:
                key = _registered(self._manager.registry, Path(vector.lora_adapter_path))
            except IntrinsicError as error:
                skipped.append(Skipped(vector.lora_adapter_path, str(error)))
                continue
            reason = f"named by memory {vector.memory_id!r}"
            named.setdefault(key, Selection(key, 1.0, vector.injection_strength, reason))
        return list(named.values()), skipped


def _noted(context: RouteContext) -> list[Skipped]:
    return [Skipped(what, why) for what, why in context.notes or ()]


def _registered(registry: AdapterRegistry, path: Path) -> str:
    entry = registry.find_path(path)
    return (entry or registry.register_adapter(path)).key
