"""The text encoder `sentence-transformers`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from intrinsic.hookspecs import hookimpl

if TYPE_CHECKING:
    from intrinsic.routing.encoder_options import EncoderOptions
    from intrinsic.routing.router import Embedder


@hookimpl
def register_embedders() -> Mapping[str, Callable[..., Embedder]]:
    """Encode with any sentence-transformers model; without a name with the bundled one.

    The bundled one runs as int8 ONNX where the extra `onnx` is installed.
    """

    def sentence_transformers(
        model: str | None = None, *, encoder: EncoderOptions | None = None
    ) -> Embedder:
        from intrinsic.routing.encoder import SentenceEncoder

        return SentenceEncoder(model, options=encoder)

    return {"sentence-transformers": sentence_transformers}
