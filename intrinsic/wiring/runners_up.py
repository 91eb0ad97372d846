"""Adapters that the router nearly chose, brought near while the request runs that they lost."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from intrinsic.backends import Capability
from intrinsic.bus import MemoryBus, Notice
from intrinsic.card import AdapterCard
from intrinsic.errors import BusClosedError
from intrinsic.manager import AdapterManager
from intrinsic.selection import RouteContext, Selection
from intrinsic.wiring.plugin_router import PluginRouter

logger = logging.getLogger("intrinsic.wiring")

_MAX_WAITING = 8


class _Routed(NamedTuple):
    query: str
    candidates: Sequence[AdapterCard]
    context: RouteContext
    chosen: Sequence[Selection]


class RunnersUp:
    """Prefetches the next best candidates of routed events, `count` for each.

    At most one task does it, one of the bus: it begins once an event was delivered, works off what
    waits, and ends with the bus. What finds `_MAX_WAITING` others waiting is dropped. An adapter
    that cannot be prefetched is logged, once.
    """

    def __init__(
        self, bus: MemoryBus, manager: AdapterManager, router: PluginRouter, *, count: int
    ) -> None:
        self._bus = bus
        self._manager = manager
        self._router = router
        self._count = count
        self._waiting: deque[_Routed] = deque()
        self._working = False
        self._faulty: set[str] = set()
        self._is_on = count > 0 and manager.backend.supports(Capability.PREFETCH)
        if self._is_on:
            bus.on("handled", self._begin)

    def note(
        self,
        query: str,
        candidates: Sequence[AdapterCard],
        context: RouteContext,
        chosen: Sequence[Selection],
    ) -> None:
        """Remember what was routed, where some rest can be ranked and there is room to wait."""
        if not (self._is_on and self._router.can_rank and len(self._waiting) < _MAX_WAITING):
            return
        loaded = self._manager.registry.loaded_adapters
        if any(card.key not in loaded for card in candidates):
            self._waiting.append(_Routed(query, candidates, context, chosen))

    def _begin(self, notice: Notice) -> None:
        if not self._waiting or self._working:
            return
        try:
            self._bus.start_background(self._work_off)
        except BusClosedError:
            self._waiting.clear()
        else:
            self._working = True

    async def _work_off(self) -> None:
        try:
            while self._waiting:
                await self._prefetch(self._waiting.popleft())
        finally:
            self._working = False

    async def _prefetch(self, routed: _Routed) -> None:
        near = self._manager.get_near_adapters()
        if all(card.key in near for card in routed.candidates):
            return
        try:
            ranked = await self._router.runners_up(
                routed.query,
                candidates=routed.candidates,
                context=routed.context,
                chosen=routed.chosen,
                count=self._count,
            )
        except Exception as error:
            logger.warning("nothing is prefetched, ranking failed: %s", error)
            return
        for selection in ranked:
            await self._bring(selection.adapter)

    async def _bring(self, adapter: str) -> None:
        try:
            await self._manager.prefetch([adapter])
        except Exception as error:
            if adapter not in self._faulty:
                logger.warning("adapter %s is not prefetched: %s", adapter, error)
            self._faulty.add(adapter)
