"""The architectures that come along; importing this package makes them known by name."""

from intrinsic.hypernet.architectures.core import Core, DiagonalCore

__all__ = ["Core", "DiagonalCore"]
