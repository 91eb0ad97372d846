"""Side-car or merged: many mixtures at once, or one that is written into the weights.

While nothing is merged, any request may run. While a mixture is merged, requests for exactly it
run; the first request for another waits until those have ended, has the base weights copied back,
and goes on in side-car mode.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from intrinsic.errors import CapacityError
from intrinsic.manager.turn import Turn
from intrinsic.mixture import Mixture

Merge = Callable[[Mixture], Awaitable[None]]


class ModeGate:
    """Lets requests in under a mixture; `restore` gives the base weights back."""

    def __init__(
        self,
        restore: Callable[[], Awaitable[None]],
        *,
        wait_timeout_s: float,
    ) -> None:
        self.merged: Mixture | None = None
        self.running = 0
        self._restore = restore
        self._wait_timeout_s = wait_timeout_s
        self._turn = Turn(wait_timeout_s)
        self._merged_by: Merge | None = None
        self._method: object = ""
        self._changing = False
        self._left = anyio.Event()

    async def enter(self, mixture: Mixture) -> None:
        """Wait until a request may run under `mixture`, and count it as running."""
        if not self._may_run(mixture):
            async with self._turn.taken():
                if not self._may_run(mixture):
                    await self._change(None)
                self.running += 1
            return
        self.running += 1

    def leave(self) -> None:
        """Count a request as ended."""
        self.running -= 1
        self._left.set()
        self._left = anyio.Event()

    async def change(
        self, mixture: Mixture | None, merge: Merge | None = None, method: object = ""
    ) -> None:
        """Merge a mixture once all running requests have ended; None restores the base.

        Where merging fails, the mixture that was merged before is merged again.
        """
        async with self._turn.taken():
            if mixture != self.merged or (mixture is not None and method != self._method):
                await self._change(mixture, merge)
                self._method = method

    async def change_if_idle(self, mixture: Mixture, merge: Merge, method: object = "") -> bool:
        """As `change`, but at once or not at all: only where no request runs."""
        async with self._turn.taken():
            if self.running or mixture == self.merged:
                return False
            await self._change(mixture, merge)
            self._method = method
            return True

    def _may_run(self, mixture: Mixture) -> bool:
        return not self._changing and self.merged in (None, mixture)

    async def _change(self, mixture: Mixture | None, merge: Merge | None = None) -> None:
        self._changing = True
        try:
            await self._drain()
            with anyio.CancelScope(shield=True):
                await self._exchange(mixture, merge)
        finally:
            self._changing = False

    async def _exchange(self, mixture: Mixture | None, merge: Merge | None) -> None:
        former, merged_by = self.merged, self._merged_by
        await self._restore()
        self.merged = None
        if mixture is None or merge is None:
            return
        try:
            await merge(mixture)
        except BaseException:
            if former is not None and merged_by is not None:
                await merged_by(former)
                self.merged = former
            raise
        self.merged, self._merged_by = mixture, merge

    async def _drain(self) -> None:
        with anyio.move_on_after(self._wait_timeout_s):
            while self.running:
                await self._left.wait()
            return
        raise CapacityError(
            f"{self.running} requests still run after {self._wait_timeout_s} s, "
            "so the mode of the weights cannot change; end them or raise wait_timeout_s"
        )
