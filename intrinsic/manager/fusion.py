"""Fused mode: one mixture written into the weights, and its adapters held while it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, cast

from intrinsic.backends import Capability, ModelBackend
from intrinsic.errors import CapabilityError
from intrinsic.manager.loader import AdapterLoader
from intrinsic.manager.mode_gate import ModeGate
from intrinsic.manager.room import MergedError
from intrinsic.mixture import Mixture
from intrinsic.plugins import PluginManager

if TYPE_CHECKING:
    from intrinsic.lora import MergeMethod


class Fusion:
    """Merges and restores through the backend, behind the gate that requests pass."""

    def __init__(
        self,
        backend: ModelBackend,
        loader: AdapterLoader,
        plugins: PluginManager | None,
        *,
        wait_timeout_s: float,
    ) -> None:
        self.gate = ModeGate(self._restore, wait_timeout_s=wait_timeout_s)
        self.adapters: tuple[str, ...] = ()
        self._backend = backend
        self._loader = loader
        self._plugins = plugins

    async def fuse(self, mixture: Mixture, method: str | MergeMethod) -> None:
        """Write a mixture into the weights by a merge method; the base restores them."""
        if not self._backend.supports(Capability.MERGE):
            raise CapabilityError(f"backend {self._backend.name!r} cannot merge weights")
        merge = partial(self._merge, method=self._merge_method(method))
        await self.gate.change(mixture or None, merge, method)

    async def fuse_if_idle(self, mixture: Mixture) -> bool:
        """Write a mixture into the weights by its exact sum, unless a request runs."""
        merge = partial(self._merge, method=self._merge_method("exact"))
        return await self.gate.change_if_idle(mixture, merge, "exact")

    @asynccontextmanager
    async def running(self, mixture: Mixture) -> AsyncIterator[None]:
        """Count as a request for a mixture, with its adapters on the device."""
        await self.gate.enter(mixture)
        try:
            await self._loader.hold(mixture.adapters)
            try:
                yield
            finally:
                self._loader.release(mixture.adapters)
        finally:
            self.gate.leave()

    async def unfuse(self) -> None:
        """Copy the pristine weights back."""
        await self.gate.change(None)

    async def give_way(self, change: Callable[[], Awaitable[None]]) -> None:
        """Make a change of adapters; what is merged is taken out where it alone is in the way."""
        while True:
            try:
                return await change()
            except MergedError:
                await self.unfuse()

    def _merge_method(self, name: str | MergeMethod) -> MergeMethod | None:
        """The plugins' merge method of that name; without plugins the backend's own exact one."""
        if not isinstance(name, str):
            return name
        if self._plugins is None and name == "exact":
            return None
        plugins = self._plugins or PluginManager.with_builtins()
        found = plugins.factory("register_merge_methods", name, "merge method")
        return cast("MergeMethod", found)

    async def _merge(self, mixture: Mixture, *, method: MergeMethod | None) -> None:
        """Called by the gate once no request runs."""
        await self._loader.hold(mixture.adapters)
        try:
            await self._backend.merge(mixture, method)
        except BaseException:
            self._loader.release(mixture.adapters)
            raise
        self.adapters = mixture.adapters
        self._loader.note_merged(mixture.adapters)

    async def _restore(self) -> None:
        if self.adapters:
            await self._backend.restore()
            self._loader.note_merged(())
            self._loader.release(self.adapters)
            self.adapters = ()
