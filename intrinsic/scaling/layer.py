"""What a module tells of the adapters on it: whether it is LoRA, whose, merged, switched off."""

from __future__ import annotations

import re

from intrinsic.scaling.attributes import is_keyed, keys_of, own
from intrinsic.scaling.names import names_by, names_in

_FACTORS = ("lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B")
_PER_ADAPTER = (*_FACTORS, "scaling", "r", "lora_alpha")
_LORA = re.compile(r"Lo[rR][aA]|LORA|(?:^|_)lora")


def is_lora(module: object) -> bool:
    """Whether a module is a LoRA layer by its factors, its class, or PEFT's pair of methods.

    A number or a mapping called `scaling` alone says nothing: attention modules have one too.
    """
    if is_other_tuner(module):
        return False
    if any(own(module, name) is not None for name in _FACTORS):
        return True
    if callable(own(module, "scale_layer")) and callable(own(module, "unscale_layer")):
        return True
    return any(_LORA.search(kind.__name__) for kind in type(module).__mro__)


def is_other_tuner(module: object) -> bool:
    """Whether a module is a layer of PEFT's, but of another method than LoRA."""
    names = names_in(own(module, "adapter_layer_names"))
    return bool(names) and not any(name.startswith("lora_") for name in names)


def carried(module: object) -> tuple[str, ...]:
    """The adapters that a layer carries; empty where it does not tell."""
    names = [key for name in _PER_ADAPTER for key in keys_of(own(module, name))]
    return tuple(dict.fromkeys(names)) or names_by(module)


def weights_of(module: object, adapter: str) -> object:
    """The module that holds an adapter's factor, or None: a new one is a new adapter."""
    for name in _FACTORS:
        factors = own(module, name)
        if adapter in keys_of(factors) and is_keyed(factors):
            held = factors[adapter]
            return held if hasattr(held, "modules") else None
    return None


def is_merged(module: object, adapter: str) -> bool:
    """Whether an adapter is written into the layer's base weight."""
    names = own(module, "merged_adapters")
    if names is not None:
        return adapter in names_in(names)
    return own(module, "merged") is True


def is_disabled(module: object) -> bool:
    """Whether the layer leaves out all its adapters."""
    return own(module, "disable_adapters") is True


def has_magnitude(module: object, adapter: str) -> bool:
    """Whether the adapter is DoRA here, whose magnitude stays in force at scale 0."""
    if adapter in keys_of(own(module, "lora_magnitude_vector")):
        return True
    flags = own(module, "use_dora")
    return is_keyed(flags) and adapter in keys_of(flags) and bool(flags[adapter])
