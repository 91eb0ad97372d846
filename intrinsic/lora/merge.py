"""Merge methods by name: how the deltas of several adapters become one; all defined on ΔW.

A method is a pure function of deltas and weights. Plugins add theirs through the hook
`register_merge_methods`; the built-in ones are registered the same way.
"""

from __future__ import annotations

from collections.abc import Mapping

from intrinsic.errors import ConfigError
from intrinsic.lora.dare import dare, dare_ties
from intrinsic.lora.exact import exact
from intrinsic.lora.merge_options import MergeMethod
from intrinsic.lora.prune import magnitude_prune
from intrinsic.lora.svd import svd
from intrinsic.lora.ties import ties

MERGE_METHODS: Mapping[str, MergeMethod] = {
    "exact": exact,
    "svd": svd,
    "ties": ties,
    "dare": dare,
    "dare_ties": dare_ties,
    "magnitude_prune": magnitude_prune,
}
"""The built-in methods; `exact` is the default and the only one that is the mixture's meaning."""


def merge_method(name: str) -> MergeMethod:
    """The built-in method of that name. Raises `ConfigError` with the known names."""
    if name not in MERGE_METHODS:
        raise ConfigError(
            f"unknown merge method {name!r}; known: {', '.join(sorted(MERGE_METHODS))}"
        )
    return MERGE_METHODS[name]
