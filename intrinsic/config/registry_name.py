"""A registry's file or URL, whose password is shown nowhere."""

from __future__ import annotations

from intrinsic.errors import ConfigError

HIDDEN = "***"


class RegistryName(str):
    """A text as any other, but that its `repr` has no password."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(self.shown)

    @property
    def shown(self) -> str:
        """The text without a password."""
        if "://" not in self:
            return str(self)
        from intrinsic.registry.store.location import Location

        try:
            return Location.of(str(self)).shown
        except ConfigError:
            return HIDDEN
