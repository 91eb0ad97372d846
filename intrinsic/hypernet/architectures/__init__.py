"""The architectures that come along; importing this package makes them known by name."""

from intrinsic.hypernet.architectures.core import Core, DiagonalCore
from intrinsic.hypernet.architectures.heads import Heads
from intrinsic.hypernet.architectures.per_rank import PerRank
from intrinsic.hypernet.architectures.shared_heads import SharedHeads
from intrinsic.hypernet.architectures.square import Square

__all__ = ["Core", "DiagonalCore", "Heads", "PerRank", "SharedHeads", "Square"]
