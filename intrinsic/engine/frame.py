"""The rows of a bank that several adapters share, and the core that each has of its own."""

from __future__ import annotations

import torch

from intrinsic.engine.layout import FreeRows


class Frame:
    """Rows from `start` on; `cores (n, r, r)` has room for n adapters, each in a slot.

    `source` is what the rows were copied from, with its key: kept, so that no other factors can
    come to lie where it does. The cores are replaced where there is no room for one more; what
    reads them keeps those that it began with.
    """

    def __init__(
        self, start: int, source: tuple[object, torch.Tensor, torch.Tensor], *, like: torch.Tensor
    ) -> None:
        self.start = start
        self.source = source
        self.rank = int(source[1].shape[0])
        self.cores = like.new_empty(0, self.rank, self.rank)
        self.users = 0
        self._free = FreeRows()

    def add(self, core: torch.Tensor) -> int:
        """Copy a core `(r, r)`, and return its slot."""
        slot = self._free.take(1)
        try:
            room = len(self.cores)
            if slot >= room:
                cores = self.cores.new_empty(max(4, room + room // 2), self.rank, self.rank)
                cores[:room].copy_(self.cores)
                self.cores = cores
            self.cores[slot].copy_(core, non_blocking=True)
        except BaseException:
            self._free.give(slot, 1)
            raise
        self.users += 1
        return slot

    def remove(self, slot: int) -> None:
        """Free a slot."""
        self._free.give(slot, 1)
        self.users -= 1
