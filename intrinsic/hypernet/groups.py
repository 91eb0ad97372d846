"""Targets of one shape, worked on together: a few large products in place of many small ones."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from intrinsic.hypernet.targets import TargetShape

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Group:
    """Targets of one shape, by their places in the order of all."""

    in_features: int
    out_features: int
    places: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.places)


def groups_of(
    targets: Sequence[TargetShape], key: Callable[[TargetShape], Hashable] = lambda target: None
) -> tuple[Group, ...]:
    """Group targets that agree in their shape and in `key`."""
    places: dict[tuple[int, int, Hashable], list[int]] = {}
    for place, target in enumerate(targets):
        shape = (target.in_features, target.out_features, key(target))
        places.setdefault(shape, []).append(place)
    return tuple(Group(shape[0], shape[1], tuple(found)) for shape, found in places.items())


def in_target_order(groups: Sequence[Group], found: Iterable[Sequence[T]]) -> list[T]:
    """What was found per group and member, as one list in the order of the targets."""
    placed: dict[int, T] = {}
    for group, members in zip(groups, found, strict=True):
        placed.update(zip(group.places, members, strict=True))
    return [placed[place] for place in range(len(placed))]
