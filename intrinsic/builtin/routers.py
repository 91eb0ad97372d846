"""The routers `keyword`, `embedding`, `hybrid`, `llm` and `cascade`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from intrinsic.hookspecs import hookimpl

if TYPE_CHECKING:
    from intrinsic.routing.router import Router

NAMES = ("keyword", "embedding", "hybrid", "llm", "cascade")


@hookimpl
def register_routers() -> Mapping[str, Callable[..., Router]]:
    """Build the routers that come with intrinsic."""
    from intrinsic.routing import make_router

    return {name: partial(make_router, name) for name in NAMES}
