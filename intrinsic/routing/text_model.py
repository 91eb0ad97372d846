"""What an encoder asks of a model, and a sentence-transformers model behind that seam."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from intrinsic.errors import EncoderError
from intrinsic.routing.model_loading import BUNDLED_SHA256, load_model
from intrinsic.routing.pieces import cut, means, unit_rows
from intrinsic.routing.router import Vectors


class TextModel(Protocol):
    """A loaded model; used by one thread at a time."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    @property
    def identity(self) -> str | None:
        """What decides its vectors (weights, runtime), as one text; None where it is not known."""
        ...

    @property
    def limit(self) -> int:
        """How many tokens of a text it reads; below 1 where there is no bound."""
        ...

    def spans(self, text: str) -> Sequence[tuple[int, int]]:
        """Return where each token of `text` begins and ends."""
        ...

    def encode(self, texts: Sequence[str], batch_size: int) -> np.ndarray[Any, Any]:
        """Return one vector per text; none is longer than `limit` tokens."""
        ...


def encode_whole(
    model: TextModel, texts: Sequence[str], *, batch_size: int, max_pieces: int, name: str
) -> Vectors:
    """One unit vector per text, however long it is, `(n_texts, dimension)` float32.

    A text that is longer than the model reads is read in at most `max_pieces` pieces. Raises
    `EncoderError`, with `name` as the model's.
    """

    def pieces_of(text: str) -> list[str]:
        if model.limit < 1 or len(text) <= model.limit:
            return [text]
        return cut(text, model.spans(text), model.limit, max_pieces)

    try:
        pieces = [pieces_of(text) for text in texts]
        flat = [piece for of_text in pieces for piece in of_text]
        raw = model.encode(flat, batch_size)
    except Exception as error:
        raise EncoderError(f"encoder {name!r} failed: {error}") from error
    return means(unit_rows(np.asarray(raw), len(flat), name), pieces)


class TorchModel:
    """A sentence-transformers model by hub name or folder; None is the bundled one.

    `middle_layer` is what the bundled one's fourth layer counts, see `MiddleLayer`. Raises
    `EncoderError` where it cannot be loaded.
    """

    def __init__(self, source: str | None, device: str, *, middle_layer: float = 0.0) -> None:
        self._model = load_model(source, device)
        get = getattr(self._model, "get_embedding_dimension", None)
        get = get or self._model.get_sentence_embedding_dimension
        self.dimension = int(get() or 0)
        self.limit = int(getattr(self._model, "max_seq_length", None) or 0) - 2  # [CLS] and [SEP]
        self.identity = _identity(source, self._model)
        if source is None:
            self.identity = f"{self.identity} middle:{middle_layer}"
            if middle_layer:
                from intrinsic.routing import middle_layer as of_torch

                of_torch.add_to(self._model, middle_layer)

    def spans(self, text: str) -> Sequence[tuple[int, int]]:
        """Return where each token of `text` begins and ends."""
        tokens = self._model.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        spans: Sequence[tuple[int, int]] = tokens["offset_mapping"]
        return spans

    def encode(self, texts: Sequence[str], batch_size: int) -> np.ndarray[Any, Any]:
        """Return one vector per text."""
        return np.asarray(
            self._model.encode(
                list(texts), batch_size=batch_size, show_progress_bar=False, convert_to_numpy=True
            )
        )


def _identity(source: str | None, model: Any) -> str | None:  # noqa: ANN401
    if source is None:
        return f"torch sha256:{BUNDLED_SHA256}"
    if Path(source).is_dir():
        return f"torch files:{digest_of_folder(Path(source))}"
    try:
        commit = model[0].auto_model.config._commit_hash
    except (AttributeError, IndexError, KeyError, TypeError):
        return None
    return f"torch {source}@{commit}" if commit else None


def digest_of_folder(folder: Path) -> str:
    """Return a digest of the names and contents of all files in `folder`."""
    whole = hashlib.blake2b(digest_size=20)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{path.relative_to(folder).as_posix()}\0{content}\0".encode())
    return whole.hexdigest()
