"""Which adapter of a model is in force: how to choose it, and what stands in the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from intrinsic.errors import AdapterError, UnsupportedAdapterError
from intrinsic.scaling.attributes import own
from intrinsic.scaling.layer import has_magnitude, is_disabled, is_merged
from intrinsic.scaling.names import Model, active_names
from intrinsic.scaling.target import Target


def chooser(model: Model, adapter: str) -> Callable[[], None] | None:
    """What makes an adapter the active one, or None where only its scale can.

    Raises `AdapterError` where the model calls another one active and offers no `set_adapter`.
    """
    for module in model.modules():
        choose = own(module, "set_adapter")
        if own(module, "_hf_peft_config_loaded") is False:  # transformers' own would refuse all
            continue
        if callable(choose) and (module is model or own(module, "peft_config") is not None):
            return lambda: _choose(choose, adapter)
    active = active_names(model)
    if active and adapter not in active:
        raise AdapterError(
            f"adapter {adapter!r} is not active ({', '.join(active)}) and the model has no "
            "set_adapter; make it active in the model's own way"
        )
    return None


def refuse_blocked(adapter: str, targets: Mapping[str, Target], *, off: bool) -> None:
    """Raise `AdapterError` where switching would be wrong (merged) or without effect (disabled)."""
    for path, target in targets.items():
        if is_merged(target.module, adapter):
            raise AdapterError(
                f"adapter {adapter!r} is merged into {path} and stays in force; "
                "call unmerge_adapter() first"
            )
        if not off and is_disabled(target.module):
            raise AdapterError(
                f"the adapters of {path} are disabled; call enable_adapter_layers() first"
            )


def refuse_remains(adapter: str, targets: Mapping[str, Target]) -> None:
    """Raise `UnsupportedAdapterError` where scale 0 would leave something of an adapter."""
    for path, target in targets.items():
        if has_magnitude(target.module, adapter):
            raise UnsupportedAdapterError(
                f"adapter {adapter!r} is DoRA in {path}: its magnitude stays in force at scale 0; "
                "use PEFT's disable_adapter() instead"
            )


def _choose(choose: Callable[[str], object], adapter: str) -> None:
    try:
        choose(adapter)
    except Exception as error:
        raise AdapterError(
            f"set_adapter({adapter!r}) failed: {error}; every layer has its former scale"
        ) from error
