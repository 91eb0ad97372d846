"""The backend `transformers`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from intrinsic.hookspecs import hookimpl

if TYPE_CHECKING:
    from intrinsic.backends import ModelBackend
    from intrinsic.backends.transformers_options import TransformersOptions


@hookimpl
def register_backends() -> Mapping[str, Callable[..., ModelBackend]]:
    """Run any causal language model that transformers loads."""

    def backend(model: str, *, transformers: TransformersOptions | None = None) -> ModelBackend:
        from intrinsic.backends.transformers_backend import TransformersBackend

        chosen = {} if transformers is None else asdict(transformers)
        return TransformersBackend.from_pretrained(model, **chosen)

    return {"transformers": backend}
