"""The bundled encoder as int8 ONNX: `tokenizers`, `onnxruntime`, and neither torch nor network."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from intrinsic.errors import EncoderError
from intrinsic.extras import how_to_install
from intrinsic.routing.cache_folder import write_whole
from intrinsic.routing.model_loading import (
    BUNDLED_DIMENSION,
    BUNDLED_SHA256,
    bundled_folder,
    bundled_model,
)
from intrinsic.routing.onnx_export import FORMAT, export
from intrinsic.routing.pieces import unit_rows
from intrinsic.routing.router import Vectors

_LOG = logging.getLogger("intrinsic.routing")
_TOKENS = 256
_AT_ONCE = 8
_DIGEST_BYTES = 32
_KNOWN = (
    ("how is asthma treated", "treatments of a lung disease", 0.543),
    ("book me a flight to Paris", "which law governs the contract", 0.133),
)
_TOLERANCE = 0.05


def onnx_installed() -> bool:
    """Whether both packages of the extra `onnx` are there; imports neither."""
    return all(importlib.util.find_spec(name) for name in ("onnxruntime", "onnx"))


class OnnxModel:
    """The bundled model's int8 form; made once, kept in `cache_dir` by the weights' digest.

    Texts are sorted by length and encoded eight at a time, by `threads` threads. Raises
    `EncoderError` where it cannot be made or gives other cosines than the model is known for.
    """

    dimension = BUNDLED_DIMENSION
    limit = _TOKENS - 2  # [CLS] and [SEP]

    def __init__(
        self, cache_dir: Path | None, threads: int = 1, *, middle_layer: float = 0.0
    ) -> None:
        self.identity = f"onnx {FORMAT} sha256:{BUNDLED_SHA256} middle:{middle_layer}"
        self._middle_layer = middle_layer
        self._tokenizer = _tokenizer()
        self._session = open_session(graph_bytes(cache_dir))
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0
        self._check()

    def spans(self, text: str) -> Sequence[tuple[int, int]]:
        """Return where each token of `text` begins and ends."""
        spans: list[tuple[int, int]] = self._tokenizer.encode(
            text, add_special_tokens=False
        ).offsets
        return spans

    def encode(self, texts: Sequence[str], batch_size: int) -> Vectors:
        """Return one unit vector per text, `(n_texts, 384)`."""
        rows = self._ids(texts)
        order = sorted(range(len(rows)), key=lambda at: len(rows[at]))
        size = min(batch_size, _AT_ONCE)
        parts = [order[at : at + size] for at in range(0, len(order), size)]
        vectors = np.empty((len(rows), self.dimension), np.float32)

        def encode(part: list[int]) -> None:
            last, middle = run(self._session, [rows[at] for at in part])
            found = unit_rows(last, len(part), "ONNX")
            if self._middle_layer:
                found += np.float32(self._middle_layer) * unit_rows(middle, len(part), "ONNX")
            vectors[part] = found

        if self._threads == 1 or len(parts) == 1:
            for part in parts:
                encode(part)
        else:
            list(self._workers().map(encode, reversed(parts)))
        return unit_rows(vectors, len(rows), "ONNX")

    def _workers(self) -> ThreadPoolExecutor:
        if self._pool is None or self._process != os.getpid():  # threads do not survive a fork
            self._pool = ThreadPoolExecutor(self._threads, "intrinsic-onnx")
            self._process = os.getpid()
        return self._pool

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [one.ids[:_TOKENS] for one in self._tokenizer.encode_batch_fast(list(texts))]

    def _check(self) -> None:
        for one, other, known in _KNOWN:
            try:
                last, _ = run(self._session, self._ids([one, other]))
                first, second = unit_rows(last, 2, "ONNX")
            except Exception as error:  # onnxruntime's errors have no common class
                raise EncoderError(
                    f"onnxruntime fails at running the encoder: {error}; "
                    "update it, or choose runtime='torch'"
                ) from error
            if not abs(first @ second - known) <= _TOLERANCE:
                raise EncoderError(
                    f"onnxruntime gives a cosine of {first @ second:.3f} where the encoder's is "
                    f"{known:.3f}; update onnxruntime, or choose runtime='torch'"
                )


def run(session: Any, rows: Sequence[Sequence[int]]) -> tuple[Vectors, Vectors]:  # noqa: ANN401
    """Return the means over each row's tokens of the last layer and the fourth, `(n_rows, 384)`."""
    tokens = max(map(len, rows))
    ids = np.zeros((len(rows), tokens), np.int64)
    mask = np.zeros((len(rows), tokens), np.int32)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = row
        mask[at, : len(row)] = 1
    shares = (mask / mask.sum(axis=1, keepdims=True)).astype(np.float32)[:, None, :]
    positions = np.arange(tokens, dtype=np.int64)
    inputs = {"ids": ids, "positions": positions, "mask": mask, "shares": shares}
    last, middle = session.run(None, inputs)
    return last, middle


def open_session(graph: bytes) -> Any:  # noqa: ANN401
    """Return an onnxruntime session of one thread; raises `EncoderError`."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it would write files, and send them
    try:
        import onnxruntime
    except Exception as error:  # a broken library raises more than ImportError
        raise EncoderError(
            f"onnxruntime cannot be imported ({error}); choose runtime='torch', or "
            + how_to_install("onnx")
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common class
        raise EncoderError(
            f"onnxruntime {onnxruntime.__version__} does not take the encoder: {error}; "
            "update it, or choose runtime='torch'"
        ) from error


def graph_bytes(cache_dir: Path | None) -> bytes:
    """Return the graph, out of `cache_dir` where it is there and sound; else it is made and kept.

    The file begins with the SHA-256 of the rest.
    """
    path = None
    if cache_dir is not None:
        path = cache_dir / "models" / f"all-MiniLM-L6-v2-{BUNDLED_SHA256[:16]}-{FORMAT}.onnx"
        kept = _sound(path)
        if kept is not None:
            return kept
    _LOG.info("making the int8 form of the encoder (a second or two, once)")
    graph = export(bundled_model() / "model.safetensors")
    if path is not None:
        try:
            write_whole(path, hashlib.sha256(graph).digest() + graph)
        except OSError as error:
            _LOG.warning("the encoder's int8 form is not kept on disk: %s", error)
    return graph


def _sound(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, graph = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(graph).digest() == digest:
        return graph
    _LOG.warning("%s is damaged; it is made again", path)
    return None


def _tokenizer() -> Any:  # noqa: ANN401
    try:
        from tokenizers import Tokenizer
    except Exception as error:  # a broken library raises more than ImportError
        raise EncoderError(
            f"tokenizers cannot be imported ({error}); install it with 'pip install tokenizers'"
        ) from error
    path = bundled_folder() / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises plain Exception
        raise EncoderError(f"the bundled encoder's {path} cannot be read: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
