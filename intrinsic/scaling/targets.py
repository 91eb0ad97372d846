"""The kinds of place in which a LoRA layer keeps an adapter's scale, and how each is written.

| kind          | on the layer                             | `x` times the base is written as     |
|---------------|------------------------------------------|--------------------------------------|
| `mapping`     | `scaling[adapter]`, number or tensor     | `base * x`                           |
| `set_scale`   | `set_scale(adapter, x)`                  | `x`: it multiplies the initial scale |
| `scalar`      | `scaling`, number or tensor              | `base * x`                           |
| `scale_layer` | `scale_layer(x)` and `unscale_layer()`   | undone first, since it compounds     |

Where a layer has several of them, the first in this order counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from intrinsic.errors import AdapterError, UnsupportedAdapterError
from intrinsic.scaling.attributes import is_keyed, keys_of, own
from intrinsic.scaling.target import Target
from intrinsic.scaling.value import as_number, filled, is_scale

if TYPE_CHECKING:
    from intrinsic.scaling.value import Scale


_SCALING = "scaling"


class MappingTarget(Target):
    """`scaling[adapter]`. The mapping is looked up each time: others may replace it."""

    kind = "mapping"

    def read(self) -> Scale:
        """The mapping's value."""
        scaling = own(self.module, _SCALING)
        if not is_keyed(scaling) or self.adapter not in keys_of(scaling):
            return _scale(None, self.adapter)
        return _scale(scaling[self.adapter], self.adapter)

    def write(self, scale: Scale) -> None:
        """Replace a number; fill a tensor in place."""
        scaling = own(self.module, _SCALING)
        if is_keyed(scaling):
            scaling[self.adapter] = filled(self.read(), scale)


class ScalarTarget(Target):
    """The layer's only number, `scaling`."""

    kind = "scalar"

    def read(self) -> Scale:
        """The attribute."""
        return _scale(own(self.module, _SCALING), self.adapter)

    def write(self, scale: Scale) -> None:
        """Replace a number; fill a tensor in place."""
        now = self.read()
        written = filled(now, scale)
        if written is not now:
            setattr(self.module, _SCALING, written)


class SetScaleTarget(Target):
    """`set_scale(adapter, x)`: x times the initial scale, which the layer itself knows."""

    kind = "set_scale"
    readable = False
    _value: Scale = 1.0

    def read(self) -> Scale:
        """What was written last, as a multiple of the initial scale."""
        return self._value

    def write(self, scale: Scale) -> None:
        """Call it."""
        _method(self.module, "set_scale")(self.adapter, as_number(scale))
        self._value = scale


class ScaleLayerTarget(SetScaleTarget):
    """`scale_layer(x)`: x times what is there, so that is taken back first, to the initial."""

    kind = "scale_layer"

    def write(self, scale: Scale) -> None:
        """Take back whatever is there, then scale."""
        _method(self.module, "unscale_layer")()
        _method(self.module, "scale_layer")(as_number(scale))
        self._value = scale


def _scale(value: object, adapter: str) -> Scale:
    if is_scale(value):
        return value
    raise UnsupportedAdapterError(
        f"the scale of adapter {adapter!r} is {value!r}; it must be a number or a tensor; "
        "load the adapter again"
    )


def _method(module: object, name: str) -> Callable[..., object]:
    method = own(module, name)
    if callable(method):
        return method
    raise AdapterError(f"the layer has no {name} any more; call refresh()")
