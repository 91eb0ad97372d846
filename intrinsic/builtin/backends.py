"""The backend `transformers`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from intrinsic.hookspecs import hookimpl

if TYPE_CHECKING:
    from intrinsic.backends import ModelBackend


@hookimpl
def register_backends() -> Mapping[str, Callable[[str], ModelBackend]]:
    """Run any causal language model that transformers loads."""

    def transformers(model: str) -> ModelBackend:
        from intrinsic.backends.transformers_backend import TransformersBackend

        return TransformersBackend.from_pretrained(model)

    return {"transformers": transformers}
