"""The text encoders `sentence-transformers` and `lora`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from intrinsic.hookspecs import hookimpl

if TYPE_CHECKING:
    from intrinsic.embedding.options import EmbeddingOptions
    from intrinsic.routing.encoder_options import EncoderOptions
    from intrinsic.routing.router import Embedder


@hookimpl
def register_embedders() -> Mapping[str, Callable[..., Embedder]]:
    """Encode with any sentence-transformers model; without a name with the bundled one.

    The bundled one runs as int8 ONNX where the extra `onnx` is installed. "lora" runs in torch,
    with the adapter of the embedding options on the encoder.
    """

    def sentence_transformers(
        model: str | None = None, *, encoder: EncoderOptions | None = None
    ) -> Embedder:
        from intrinsic.routing.encoder import SentenceEncoder

        return SentenceEncoder(model, options=encoder)

    def lora(model: str | None = None, *, embedding: EmbeddingOptions | None = None) -> Embedder:
        from intrinsic.embedding import EmbeddingOptions, EmbeddingProvider

        options = embedding or EmbeddingOptions()
        return EmbeddingProvider(options if model is None else replace(options, model=model))

    return {"sentence-transformers": sentence_transformers, "lora": lora}
