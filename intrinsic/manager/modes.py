"""Side-car or merged: which way a mixture is served, where the caller leaves it to the manager."""

from __future__ import annotations

import logging

from intrinsic.backends import Capability, ModelBackend
from intrinsic.errors import AdapterInUseError, CapacityError, IntrinsicError
from intrinsic.manager.fusion import Fusion
from intrinsic.manager.options import Mode
from intrinsic.mixture import BASE, Mixture

logger = logging.getLogger("intrinsic.manager")

_MAX_REFUSED = 1000


class ModePolicy:
    """Merges before a request is let in, where its mode says so.

    `auto` is the classic answer to renting or buying: as soon as side-cars have cost what a merge
    would have, it merges, and so never costs more than twice the best choice in hindsight. It
    merges only while no request runs, so that no other mixture is kept waiting. A mixture that
    cannot be merged is served by side-cars.
    """

    def __init__(self, mode: Mode, backend: ModelBackend, fusion: Fusion) -> None:
        self._mode = mode if backend.supports(Capability.MERGE) else "sidecar"
        self._backend = backend
        self._fusion = fusion
        self._streak = BASE
        self._tokens = 0
        self._break_even: dict[tuple[str, ...], float] = {}
        self._refused: set[Mixture] = set()
        self._measuring = False

    async def before(self, mixture: Mixture) -> None:
        """Called with the mixture of a request that is about to be let in."""
        if self._mode == "sidecar":
            return
        if mixture != self._streak:
            self._streak, self._tokens = mixture, 0
        if not mixture or mixture in self._refused or self._fusion.gate.merged == mixture:
            return
        try:
            if self._mode == "merged":
                await self._fusion.fuse(mixture, "exact")
            elif await self._is_due(mixture):
                await self._fusion.fuse_if_idle(mixture)
        except (AdapterInUseError, CapacityError) as error:
            logger.info("a mixture is served by side-cars for now: %s", error)
        except (IntrinsicError, MemoryError, RuntimeError) as error:
            logger.warning("a mixture is served by side-cars, it cannot be merged: %s", error)
            if len(self._refused) >= _MAX_REFUSED:
                self._refused.clear()
            self._refused.add(mixture)

    def spent(self, mixture: Mixture, tokens: int) -> None:
        """Count tokens that were generated under a mixture."""
        if mixture == self._streak:
            self._tokens += tokens

    async def _is_due(self, mixture: Mixture) -> bool:
        if not self._tokens or self._fusion.gate.running or self._fusion.gate.merged is not None:
            return False
        if mixture.adapters not in self._break_even and not self._measuring:
            await self._measure(mixture)
        tokens = self._break_even.get(mixture.adapters, float("inf"))
        return self._tokens >= tokens and mixture == self._streak

    async def _measure(self, mixture: Mixture) -> None:
        """Measure once at a time, as a request that a merge would wait for."""
        self._measuring = True
        try:
            async with self._fusion.running(mixture):
                tokens = await self._backend.break_even_tokens(mixture)
        finally:
            self._measuring = False
        self._break_even[mixture.adapters] = tokens
        logger.info("merging %s pays after %.0f tokens", ", ".join(mixture.adapters), tokens)
