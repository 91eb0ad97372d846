"""Which rows of a bank belong to which adapter: the same for most layers of a model."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Place(NamedTuple):
    """An adapter's rows, and the scale of its factors."""

    adapter: str
    start: int
    rank: int
    scale: float

    @property
    def stop(self) -> int:
        """The row after its last."""
        return self.start + self.rank


class Layout:
    """The places of a bank, by their rows; layers whose layouts are equal share what is planned."""

    __slots__ = ("_hash", "device", "dtype", "places")

    def __init__(self, places: tuple[Place, ...], dtype: torch.dtype, device: torch.device) -> None:
        self.places = places
        self.dtype = dtype
        self.device = device
        self._hash = hash((places, dtype, device))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Layout)
            and self._hash == other._hash
            and self.places == other.places
            and (self.dtype, self.device) == (other.dtype, other.device)
        )
