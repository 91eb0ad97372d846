"""What the register of scales tells: targets, and what a change did to them."""

from __future__ import annotations

from dataclasses import dataclass

from intrinsic.receipt import Skipped


@dataclass(frozen=True, slots=True)
class TargetScale:
    """One layer's scale of one adapter: where, of which kind, at first, and now."""

    path: str
    kind: str
    base: float
    scale: float


@dataclass(frozen=True, slots=True)
class ScaleReport:
    """What a change did to one adapter.

    `scaling` is the factor that is stored; `changed` the paths of the layers whose scale was
    written; `skipped` the others, each with the reason.
    """

    adapter: str
    scaling: float
    changed: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True, slots=True)
class Refreshed:
    """Which adapters came, which left, and which have another base scale than before."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    rebased: tuple[str, ...] = ()
