"""Finds the targets of every adapter on a model; those found before keep their base."""

from __future__ import annotations

import weakref
from collections.abc import Collection

from intrinsic.errors import UnsupportedAdapterError
from intrinsic.scaling.attributes import is_keyed, keys_of, own, takes_nothing
from intrinsic.scaling.layer import carried, is_lora, is_other_tuner
from intrinsic.scaling.names import Model, adapter_names
from intrinsic.scaling.target import Target
from intrinsic.scaling.targets import (
    MappingTarget,
    ScalarTarget,
    ScaleLayerTarget,
    SetScaleTarget,
)
from intrinsic.scaling.value import is_scale

Targets = dict[str, Target]
"""An adapter's targets, by the path of their layer."""

_UNNAMED = "default"
_HANDLES = ("scaling", "set_scale", "scale_layer")
_FOUND: weakref.WeakKeyDictionary[object, dict[str, Target]] = weakref.WeakKeyDictionary()


def find_targets(model: Model) -> dict[str, Targets]:
    """The targets of every adapter that the model names, in its order, those without any too.

    A model that names none has the adapters that its layers carry, or else one called `default`.
    """
    layers = [(path, module) for path, module in model.named_modules() if _has_handle(module)]
    names = adapter_names(model) or _carried_by([each for _, each in layers if is_lora(each)])
    found: dict[str, Targets] = {name: {} for name in names}
    for path, module in layers:
        for name in names or (_UNNAMED,):
            target = target_on(module, name, names or (_UNNAMED,))
            if target is not None:
                found.setdefault(name, {})[path] = target
    return found


def _has_handle(module: object) -> bool:
    return any(own(module, handle) is not None for handle in _HANDLES)


def _carried_by(layers: Collection[object]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for layer in layers for name in carried(layer)))


def target_on(module: object, adapter: str, known: Collection[str]) -> Target | None:
    """The adapter's target on a module, or None where the module does not carry it as LoRA.

    The same one as before, with its base, unless the adapter was replaced or somebody else wrote
    its scale. `known` are all adapters of the model. Raises `UnsupportedAdapterError` for a layer
    that does not tell its adapters apart.
    """
    former = _FOUND.get(module, {}).get(adapter)
    if former is not None and former.is_as_left():
        return former
    kind = _kind(module, adapter, known)
    if kind is None:
        return None
    target = kind(module, adapter)
    _FOUND.setdefault(module, {})[adapter] = target
    return target


def _kind(module: object, adapter: str, known: Collection[str]) -> type[Target] | None:
    scaling = own(module, "scaling")
    names = keys_of(scaling)
    if names and not is_other_tuner(module) and (is_lora(module) or set(names) <= set(known)):
        return MappingTarget if adapter in names else None
    if is_keyed(scaling) or not is_lora(module):
        return None
    names = carried(module) or tuple(known)
    if adapter not in names:
        return None
    if callable(own(module, "set_scale")) and (carried(module) or len(known) == 1):
        return SetScaleTarget
    return _unnamed(module, names)


def _unnamed(module: object, names: Collection[str]) -> type[Target] | None:
    """A kind whose scale has no name on it, so that the layer may carry one adapter only."""
    scales = callable(own(module, "scale_layer"))
    if not is_scale(own(module, "scaling")) and not scales:
        return None
    if len(names) > 1:
        raise UnsupportedAdapterError(
            f"a {type(module).__name__} has one scale for {', '.join(names)}; it must have one "
            "for each adapter; give each its own layer, or load one adapter only"
        )
    if is_scale(own(module, "scaling")):
        return ScalarTarget
    if takes_nothing(own(module, "unscale_layer")):
        return ScaleLayerTarget
    raise UnsupportedAdapterError(
        f"a {type(module).__name__} has scale_layer and no unscale_layer(); its scale cannot be "
        "taken back exactly; add that method, or a number called scaling"
    )
