"""The bundled encoder as an ONNX graph, made from its weights: BERT, then the mean over tokens.

    x = LayerNorm(words[ids] + positions + type 0)                        (batch, tokens, 384)
    6 times:  x = LayerNorm(x + O(attention(Q x, K x, V x)))
              x = LayerNorm(x + D(gelu(U x)))
    pooled = shares · x after six times, and after four                            (batch, 384)

A product `W x + b` is either exact, or `MatMulNBits`: int8 weights with one scale per block of 64
inputs, and activations that are rounded to int8 in the same blocks, each token by itself. So a
vector does not depend on what else is in its batch, which it would with `MatMulInteger`'s one
scale per tensor.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from intrinsic.errors import EncoderError
from intrinsic.extras import how_to_install

FORMAT = "int8-blocks-of-64-v2"
HEADS = 12
LAYERS = 6
MIDDLE = 4
_EPSILON = 1e-12
_BLOCK = 64
_OURS = "com.microsoft"
_OPSET, _IR = 18, 9


def export(weights: Path, *, int8: bool = True) -> bytes:
    """Return the serialised graph of all-MiniLM-L6-v2's `model.safetensors`.

    Inputs: `ids (batch, tokens)` int64, `positions (tokens,)` int64, `mask (batch, tokens)` int32,
    `shares (batch, 1, tokens)` float32, each token's share of its text's mean. Outputs:
    the means over the tokens of the last layer and of the fourth, both `(batch, 384)` float32, not
    normalised. Raises `EncoderError` without the package onnx.
    """
    try:
        from onnx import helper
        from safetensors.numpy import load_file
    except ImportError as error:
        raise EncoderError(
            f"the ONNX form cannot be made: {error}; " + how_to_install("onnx")
        ) from error
    graph = _Graph(helper, load_file(weights), int8)
    first_axis = graph.constant("axis", np.array([1], np.int64))
    middle, last = _layers(graph, _embedded(graph))
    return graph.serialised([_pooled(graph, one, first_axis) for one in (last, middle)])


def _embedded(graph: _Graph) -> str:
    words = graph.weights["embeddings.word_embeddings.weight"]
    if graph.int8:
        table = graph.constant("words", words.astype(np.float16))
        word = graph.node("Cast", [graph.node("Gather", [table, "ids"])], to=graph.float32)
    else:
        word = graph.node("Gather", [graph.constant("words", words), "ids"])
    places = graph.weights["embeddings.position_embeddings.weight"]
    places = places + graph.weights["embeddings.token_type_embeddings.weight"][0]
    place = graph.node("Gather", [graph.constant("places", places), "positions"])
    norm = graph.layer_norm("embeddings.LayerNorm")
    x = graph.node("Add", [word, place])
    return graph.node("LayerNormalization", [x, *norm], axis=-1, epsilon=_EPSILON)


def _layers(graph: _Graph, x: str) -> tuple[str, str]:
    """The fourth layer and the last."""
    middle = x
    for number in range(LAYERS):
        at = f"encoder.layer.{number}"
        attention = [f"{at}.attention.self.{name}" for name in ("query", "key", "value")]
        parts = graph.nodes_of("Split", [graph.linear(x, *attention)], 3, axis=-1)
        mixed = graph.node(
            "MultiHeadAttention", [*parts, "", "mask"], domain=_OURS, num_heads=HEADS
        )
        x = graph.add_and_norm(x, graph.linear(mixed, f"{at}.attention.output.dense"))
        inner = graph.linear(x, f"{at}.intermediate.dense")
        inner = graph.node("Gelu", [inner], domain=_OURS)
        x = graph.add_and_norm(x, graph.linear(inner, f"{at}.output.dense"))
        if number + 1 == MIDDLE:
            middle = x
    return middle, x


def _pooled(graph: _Graph, x: str, first_axis: str) -> str:
    return graph.node("Squeeze", [graph.node("MatMul", ["shares", x]), first_axis])


class _Graph:
    """Nodes and constants as they are added; a node's name is its output's."""

    def __init__(self, helper: Any, weights: dict[str, Any], int8: bool) -> None:  # noqa: ANN401
        from onnx import TensorProto, numpy_helper

        self._helper = helper
        self._to_tensor = numpy_helper.from_array
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._last_dense = ""
        self.types = TensorProto
        self.float32 = TensorProto.FLOAT
        self.weights = weights
        self.int8 = int8

    def constant(self, name: str, value: np.ndarray[Any, Any]) -> str:
        self._constants.append(self._to_tensor(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, inputs: list[str], *, domain: str = "", **attributes: object) -> str:
        return self.nodes_of(kind, inputs, 1, domain=domain, **attributes)[0]

    def nodes_of(
        self, kind: str, inputs: list[str], outputs: int, *, domain: str = "", **attributes: object
    ) -> list[str]:
        names = [f"{kind}_{len(self._nodes)}_{number}" for number in range(outputs)]
        if kind == "Split":
            attributes["num_outputs"] = outputs
        self._nodes.append(
            self._helper.make_node(kind, inputs, names, name=names[0], domain=domain, **attributes)
        )
        return names

    def layer_norm(self, name: str) -> list[str]:
        return [
            self.constant(f"{name}.{part}", self.weights[f"{name}.{part}"])
            for part in ("weight", "bias")
        ]

    def add_and_norm(self, x: str, y: str) -> str:
        """LayerNorm of `x + y`, where `y` is the last product; its norm has its name."""
        norm = self.layer_norm(self._last_dense.replace(".dense", ".LayerNorm"))
        return self.node("SkipLayerNormalization", [y, x, *norm], domain=_OURS, epsilon=_EPSILON)

    def linear(self, x: str, *names: str) -> str:
        """`W x + b` with the rows of all `names`, one after the other."""
        self._last_dense = names[0]
        W = np.concatenate([self.weights[f"{name}.weight"] for name in names])  # (out, in)
        b = np.concatenate([self.weights[f"{name}.bias"] for name in names])
        bias = self.constant(f"{names[0]}.b", b)
        if not self.int8:
            product = self.node("MatMul", [x, self.constant(f"{names[0]}.W", W.T)])
            return self.node("Add", [product, bias])
        blocks, scales = quantised(W)
        inputs = [self.constant(f"{names[0]}.W", blocks), self.constant(f"{names[0]}.s", scales)]
        return self.node(
            "MatMulNBits",
            [x, *inputs, "", "", bias],
            domain=_OURS,
            N=W.shape[0],
            K=W.shape[1],
            bits=8,
            block_size=_BLOCK,
            accuracy_level=4,
        )

    def serialised(self, outputs: list[str]) -> bytes:
        make, types = self._helper.make_tensor_value_info, self.types
        inputs = [
            make("ids", types.INT64, ["batch", "tokens"]),
            make("positions", types.INT64, ["tokens"]),
            make("mask", types.INT32, ["batch", "tokens"]),
            make("shares", types.FLOAT, ["batch", 1, "tokens"]),
        ]
        given = [make(output, types.FLOAT, ["batch", None]) for output in outputs]
        graph = self._helper.make_graph(
            self._nodes, "encoder", inputs, given, initializer=self._constants
        )
        versions = [self._helper.make_opsetid("", _OPSET), self._helper.make_opsetid(_OURS, 1)]
        model = self._helper.make_model(graph, opset_imports=versions)
        model.ir_version = _IR
        content: bytes = model.SerializeToString()
        return content


def quantised(W: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return `W (out, in)` as bytes around 128, `(out, in / 64, 64)`, and scales, `(out, in / 64)`.

    `W ≈ (bytes - 128) · scale`, off by at most half a scale.
    """
    blocks = W.reshape(len(W), -1, _BLOCK)
    scales = np.abs(blocks).max(-1) / 127
    scales = np.where(scales > 0, scales, 1.0).astype(np.float32)
    return (np.rint(blocks / scales[..., None]) + 128).astype(np.uint8), scales
