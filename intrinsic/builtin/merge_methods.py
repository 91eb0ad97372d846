"""The merge method `exact`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from intrinsic.hookspecs import hookimpl

if TYPE_CHECKING:
    from intrinsic.lora import MergeMethod


@hookimpl
def register_merge_methods() -> Mapping[str, MergeMethod]:
    """Merge by the exact sum."""
    from intrinsic.lora.merge import exact

    return {"exact": exact}
