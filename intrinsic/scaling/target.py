"""One layer's scale of one adapter: its base, the factor asked for, and what was written last."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from intrinsic.errors import AdapterError, MixtureError, UnsupportedAdapterError
from intrinsic.scaling.layer import carried, weights_of
from intrinsic.scaling.value import is_finite, is_same, kept, times

if TYPE_CHECKING:
    from intrinsic.scaling.value import Scale


class Setting(NamedTuple):
    """What is asked of an adapter: a factor, and whether it is off, which keeps the factor."""

    factor: float = 1.0
    off: bool = False

    @property
    def effective(self) -> float:
        """The factor in force."""
        return 0.0 if self.off else self.factor


class Target(ABC):
    """A place in which a layer keeps an adapter's scale. It does not keep the layer alive.

    `base` is the scale at the time that the target was made; every later one is taken from it.
    Raises `UnsupportedAdapterError` for a base that is not finite.
    """

    kind: ClassVar[str]
    readable: ClassVar[bool] = True
    """Whether `read` sees what others wrote; otherwise it knows its own writes only."""

    def __init__(self, module: object, adapter: str) -> None:
        self.adapter = adapter
        self.setting = Setting()
        self._module = weakref.ref(module)
        weights = weights_of(module, adapter)
        self._weights = None if weights is None else weakref.ref(weights)
        self.base = self.left = kept(self.read())
        if not is_finite(self.base):
            raise UnsupportedAdapterError(
                f"the scale of adapter {adapter!r} is {self.base}; it must be finite; "
                "load the adapter again"
            )

    @property
    def module(self) -> object:
        """The layer. Raises `AdapterError` where it is gone."""
        module = self._module()
        if module is None:
            raise AdapterError(f"a layer of adapter {self.adapter!r} is gone; call refresh()")
        return module

    def is_current(self) -> bool:
        """Whether the layer still carries the adapter that was registered, and no new one."""
        module = self._module()
        names = () if module is None else carried(module)
        if module is None or (names and self.adapter not in names):
            return False
        return self._weights is None or self._weights() is weights_of(module, self.adapter)

    def is_as_left(self) -> bool:
        """Whether, besides, nobody else has written its scale."""
        return self.is_current() and is_same(self.read(), self.left)

    def wanted(self, factor: float) -> Scale:
        """The scale at a factor. Raises `MixtureError` where it is not finite."""
        scale = times(self.base, factor)
        if not is_finite(scale):
            raise MixtureError(
                f"scaling of {self.adapter!r} is {factor}; times its base scale {self.base} that "
                "is not finite; give a smaller one"
            )
        return scale

    def needs(self, scale: Scale) -> bool:
        """Whether writing a scale may change anything."""
        return not self.readable or not is_same(self.read(), scale)

    def put(self, scale: Scale) -> None:
        """Write a scale and read it back. Raises `AdapterError` where it did not take."""
        self.write(scale)
        if not is_same(self.read(), scale):
            raise AdapterError(f"the layer kept {self.read()} where {scale} was written")

    def settle(self, setting: Setting) -> None:
        """Note what is asked for now, and the scale that stands for it."""
        self.setting = setting
        self.left = kept(self.read())

    @abstractmethod
    def read(self) -> Scale:
        """The scale in force."""

    @abstractmethod
    def write(self, scale: Scale) -> None:
        """Bring a scale into force, whatever is there now."""
