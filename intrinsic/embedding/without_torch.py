"""What serves where torch is missing: the bundled encoder in its int8 form, without adapters."""

from __future__ import annotations

from collections.abc import Sequence

from intrinsic.embedding.item import Item
from intrinsic.embedding.options import EmbeddingOptions
from intrinsic.errors import UnsupportedAdapterError
from intrinsic.routing.cache_folder import user_cache_folder
from intrinsic.routing.onnx_model import OnnxModel
from intrinsic.routing.query_batches import Answer
from intrinsic.routing.text_model import encode_whole


class BaseEncoder:
    """Encodes items that ask for no adapter. Raises `EncoderError` without the extra `onnx`."""

    def __init__(self, options: EmbeddingOptions, *, name: str) -> None:
        self._model = OnnxModel(user_cache_folder())
        self._options = options
        self._name = name
        self.dimension = self._model.dimension
        self.prompt = ""
        self.loaded: tuple[str, ...] = ()
        self.revision: str | None = None

    def encode(self, items: Sequence[Item]) -> list[Answer]:
        """A vector per item, or the error that adapters need torch."""
        sound = [at for at, item in enumerate(items) if not item.mixture]
        refused = UnsupportedAdapterError(
            "adapters on an encoder need torch, transformers and sentence-transformers; "
            "install them with 'pip install intrinsic-lora', or ask for 'base'"
        )
        answers: list[Answer] = [refused for _ in items]
        if sound:
            vectors = encode_whole(
                self._model,
                [items[at].prefix + items[at].text for at in sound],
                batch_size=self._options.batch_size,
                max_pieces=self._options.max_pieces,
                name=self._name,
            )
            for at, vector in zip(sound, vectors, strict=True):
                answers[at] = vector
        return answers

    def close(self) -> None:
        """Nothing is on the model."""
