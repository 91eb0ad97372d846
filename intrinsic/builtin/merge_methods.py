"""The merge methods that come with intrinsic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from intrinsic.hookspecs import hookimpl

if TYPE_CHECKING:
    from intrinsic.lora import MergeMethod


@hookimpl
def register_merge_methods() -> Mapping[str, MergeMethod]:
    """`exact`, `svd`, `ties`, `dare`, `dare_ties`, `magnitude_prune`."""
    from intrinsic.lora.merge import MERGE_METHODS

    return MERGE_METHODS
