"""The manager: mixtures onto the model, exactly, per request, and off it without a trace."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from intrinsic.backends import Capability, ModelBackend
from intrinsic.errors import (
    AdapterNotFoundError,
    AdapterNotLoadedError,
    CapabilityError,
)
from intrinsic.events import MemoryEvent
from intrinsic.manager.admission import Admission
from intrinsic.manager.fusion import Fusion
from intrinsic.manager.lease import Heard, Lease
from intrinsic.manager.loader import AdapterLoader
from intrinsic.manager.modes import ModePolicy
from intrinsic.manager.options import ManagerOptions
from intrinsic.manager.receipts import Receipts
from intrinsic.manager.request import What, weights_of
from intrinsic.manager.retiring import retire
from intrinsic.manager.routed import hold_what_fits, load_what_loads
from intrinsic.manager.scaling import ScalingRegister, ScalingReport
from intrinsic.manager.stats import ManagerStats, collect_stats
from intrinsic.mixture import Mixture
from intrinsic.plugins import PluginManager
from intrinsic.receipt import Receipt, Skipped
from intrinsic.registry import AdapterRegistry
from intrinsic.selection import Selection

if TYPE_CHECKING:
    from intrinsic.lora import MergeMethod

logger = logging.getLogger("intrinsic.manager")

Asked = What | MemoryEvent | None
"""What a lease can be taken on: a mixture in any form, an event's receipt, or the active one."""


class AdapterManager:
    """Brings mixtures of registered adapters onto the model behind `backend`.

    Any number of requests hold leases at once, each on its own mixture. Adapters are loaded when
    a lease needs them; at capacity the least recently used one that nobody holds goes.
    """

    def __init__(
        self,
        backend: ModelBackend,
        registry: AdapterRegistry,
        *,
        options: ManagerOptions | None = None,
        plugins: PluginManager | None = None,
    ) -> None:
        self.backend = backend
        self.registry = registry
        self.options = options or ManagerOptions()
        self._plugins = plugins
        self._loader = AdapterLoader(backend, registry, self.options, self._notify)
        self._fusion = Fusion(
            backend, self._loader, plugins, wait_timeout_s=self.options.wait_timeout_s
        )
        self._gate = self._fusion.gate
        self._policy = ModePolicy(self.options.mode, backend, self._fusion)
        self._scaling = ScalingRegister()
        self._active: dict[str, float] = {}
        self._receipts = Receipts(self.options.max_receipts)
        self._admission = Admission(backend, registry, self.options)
        self.bypassed = False
        """While true, a lease that asks for nothing is on the base, not on the active mixture."""

    async def apply(
        self,
        selections: Sequence[Selection],
        *,
        request_id: str | None = None,
        shadow: bool = False,
        route_ms: float = 0.0,
        skipped: Sequence[Skipped] = (),
        event_id: str = "",
    ) -> Receipt:
        """Bind a router's choice to a request and bring its adapters onto the device.

        What cannot be used is skipped and the receipt says why; nothing is held until the request
        takes its lease with the receipt. In shadow mode nothing is loaded.
        """
        start = time.perf_counter()
        chosen, refused = self._admission.admit(selections, max_loaded=self._loader.max_loaded)
        load_ms = 0.0
        if not shadow:
            chosen, failed = await load_what_loads(self._loader, self.registry, chosen)
            refused += failed
            load_ms = (time.perf_counter() - start) * 1e3
        start = time.perf_counter()
        weights = {} if shadow else {self._key(s.adapter): s.weight for s in chosen}
        receipt = Receipt(
            request_id=request_id or uuid.uuid4().hex,
            event_id=event_id,
            selections=tuple(chosen),
            mixture=Mixture.of(weights),
            skipped=(*skipped, *refused),
            shadow=shadow,
            route_ms=route_ms,
            load_ms=load_ms,
            switch_ms=(time.perf_counter() - start) * 1e3,
        )
        self._receipts.add(receipt)
        return receipt

    def receipt(self, request_id: str) -> Receipt | None:
        """The latest receipt of a request, or None where there is none (any more)."""
        return self._receipts.get(request_id)

    @asynccontextmanager
    async def lease(self, what: Asked = None) -> AsyncIterator[Lease]:
        """Hold a mixture: its adapters are on the device and stay until the block ends.

        `what` is an event that was published (its receipt counts), a receipt, a mixture, weights
        by adapter name, selections, one adapter's name, or None for the active mixture. Of what
        was routed (an event, a receipt), adapters that cannot be had are left out and named in
        `Lease.skipped`; what was asked for explicitly raises: `AdapterNotFoundError`,
        `CapacityError` where there is no room within `wait_timeout_s`, and what loading raises.
        """
        weights = self._weights(what)
        if weights and not self.backend.supports(Capability.LORA):
            raise CapabilityError(
                f"backend {self.backend.name!r} cannot apply adapters; lease the base model"
            )
        mixture = self._effective(weights)
        if self._loader.is_stale(self._fusion.adapters):
            await self.unfuse()
        await self._policy.before(mixture)
        await self._gate.enter(mixture)
        try:
            skipped: tuple[Skipped, ...] = ()
            if isinstance(what, Receipt | MemoryEvent):
                mixture, skipped = await hold_what_fits(self._loader, mixture)
            else:
                await self._loader.hold(mixture.adapters)
            lease = Lease(self.backend, mixture, self._heard(what, mixture), skipped)
            try:
                yield lease
            finally:
                await lease.end()
                self._loader.release(mixture.adapters)
        finally:
            self._gate.leave()

    async def load(self, name: str, *, pin: bool = False) -> None:
        """Bring an adapter onto the device; a pinned one is never evicted."""
        await self._load([self._key(name)], pin=pin)

    async def unload(self, name: str) -> None:
        """Wait for an adapter's requests to end and take it off the device.

        It leaves the active mixture too. Raises `AdapterNotLoadedError`, or `AdapterInUseError`
        where its requests do not end within `wait_timeout_s`; then it stays in use.
        """
        key = self._loaded_key(name)
        await self._fusion.give_way(partial(self._loader.unload, key))
        self._active.pop(key, None)

    async def retire(self, name: str, *, unless: Callable[[], bool] = lambda: False) -> None:
        """Take an adapter off the device and out of host memory when its requests have ended.

        That may take however long; new ones may still come meanwhile, and others are loaded. One
        that is not there is no error. Where `unless` is true before that, it stays.
        """
        try:
            key = self._loaded_key(name)
        except AdapterNotFoundError:  # and not loaded either
            key = name
        self._active.pop(key, None)
        await retire(self._loader, self._fusion, key, unless)

    async def discard(self, name: str) -> bool:
        """Take an adapter out of device and host memory now, and say whether that was done.

        It waits for nobody: what is held by a request, merged, pinned or in the active mixture
        stays, and anything stays while other adapters are being exchanged.
        """
        key = self._loaded_key(name)
        return key not in self._active and await self._loader.discard(key)

    def pin(self, name: str, *, pinned: bool = True) -> None:
        """Protect a loaded adapter from eviction, or no longer.

        Raises `AdapterNotLoadedError`, also for one that is being evicted.
        """
        key, table = self._loaded_key(name), self._loader.table
        if key not in table or (pinned and table[key].is_leaving):
            raise AdapterNotLoadedError(f"adapter {key!r} is not loaded; load it first")
        table[key].pinned = pinned

    async def swap(self, what: Asked) -> Mixture:
        """Make a mixture the active one and take the former one's adapters off the device.

        All or nothing: the new adapters are loaded and checked before anything else changes.
        Former adapters that are pinned or in use stay.
        """
        weights = self._weights(what)
        await self._load(tuple(weights))
        former, self._active = self._active, weights
        for key in former:
            table = self._loader.table
            if key not in weights and key in table and not table[key].pinned:
                await self._loader.unload_if_idle(key)
        return self._effective(weights)

    async def set_active(self, what: Asked) -> Mixture:
        """Make a mixture the one that requests get which ask for nothing; {} is the base."""
        weights = self._weights(what) if what is not None else {}
        await self._load(tuple(weights))
        self._active = weights
        return self._effective(weights)

    def get_active_adapters(self) -> dict[str, float]:
        """The active mixture: weights by adapter, `name@version`, before run-time scaling.

        What was deleted or renamed meanwhile has left it.
        """
        for key in [key for key in self._active if not self.registry.knows(key)]:
            logger.warning("adapter %s is known no more and leaves the active mixture", key)
            del self._active[key]
        return dict(self._active)

    async def fuse(self, what: Asked = None, *, method: str | MergeMethod = "exact") -> Mixture:
        """Write a mixture into the weights, once the requests that run have ended.

        `method` is a merge method or the name of one of the plugins'; only `exact` is the
        mixture's own meaning. It then costs nothing per token. It is taken out, by copying the
        pristine weights back, as soon as a request asks for another mixture. Raises
        `CapacityError` after `wait_timeout_s`.
        """
        mixture = self._effective(self._weights(what))
        await self._fusion.fuse(mixture, method)
        return mixture

    async def unfuse(self) -> None:
        """Copy the pristine weights back, once the requests that run have ended."""
        await self._fusion.unfuse()

    def set_scaling(self, name: str, scaling: float) -> ScalingReport:
        """Scale an adapter by `scaling` times its trained scale, from the next lease on.

        Setting the same twice changes nothing; 1.0 is the adapter as trained. Requests that run
        keep what they started with.
        """
        key = self._key(name)
        table = self._loader.table
        layers = table[key].info.layers if key in table else 0
        return self._scaling.set(key, scaling, layers)

    async def prefetch(self, names: Iterable[str]) -> None:
        """Bring adapters near that may be asked for soon: into host memory, read and checked.

        They go onto the device as well where a slot and bytes are free at once; nothing is evicted
        and no request is waited for. What is loaded is left alone. Raises `CapabilityError`, or
        `AdapterNotFoundError` before anything happens; what an adapter raises comes after the
        others were prefetched, the first error with those of others as notes.
        """
        if not self.backend.supports(Capability.PREFETCH):
            raise CapabilityError(f"backend {self.backend.name!r} cannot prefetch adapters")
        await self._loader.prefetch([self._key(name) for name in names])

    def get_near_adapters(self) -> frozenset[str]:
        """The adapters (`name@version`) on the device or in host memory."""
        return frozenset(self._loader.table).union(self._loader.host.bytes_by_adapter())

    def get_stats(self) -> ManagerStats:
        """Memory by tier, hits, misses and evictions."""
        return collect_stats(
            self._loader, leases=self._gate.running, merged=self._gate.merged is not None
        )

    async def _load(self, keys: Sequence[str], *, pin: bool = False) -> None:
        """Load adapters; merged weights give way where they alone are in the way."""
        await self._fusion.give_way(partial(self._loader.load, keys, pin=pin))

    def _weights(self, what: Asked) -> dict[str, float]:
        if isinstance(what, MemoryEvent):
            what = self._receipts.of(what)
        if what is not None:
            return weights_of(what, self.registry)
        return {} if self.bypassed else self.get_active_adapters()

    def _effective(self, weights: Mapping[str, float]) -> Mixture:
        return Mixture.of({key: w * self._scaling.get(key) for key, w in weights.items()})

    def _key(self, name: str) -> str:
        return self.registry.get_adapter(name).key

    def _loaded_key(self, name: str) -> str:
        """The key of an adapter that may have left the registry while it is loaded."""
        for key in self._loader.table:
            if not self.registry.knows(name) and name in (key, key.rpartition("@")[0]):
                return key
        return self._key(name)

    def _heard(self, what: Asked, mixture: Mixture) -> Heard:
        if isinstance(what, MemoryEvent):
            what = self._receipts.of(what)
        asked = what if isinstance(what, Receipt) else Receipt(request_id="")
        receipt = replace(asked, mixture=mixture)  # which may be less than was routed

        async def heard(tokens: int, generate_ms: float) -> None:
            self._policy.spent(mixture, tokens)
            await self._notify(
                "on_generation", receipt=receipt, tokens=tokens, generate_ms=generate_ms
            )

        return heard

    async def _notify(self, hook: str, **arguments: object) -> None:
        if self._plugins is not None and self._plugins.has(hook):
            await self._plugins.notify(hook, **arguments)
