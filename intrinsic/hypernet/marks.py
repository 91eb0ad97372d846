"""What a hypernetwork is bound to: one base model, and one encoder."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from intrinsic.hypernet.computed import computed_values, value_differences
from intrinsic.registry.signature import ModelSignature

if TYPE_CHECKING:
    from intrinsic.hypernet.encoders import TextEncoder

PROBE = "Sort the words of the sentence by length, then answer the question in French."
"""The sentence that tells encoders apart."""

_DIGITS = 4
_SAME = 0.999
"""Cosine from which two embeddings of the probe are one encoder's, whatever it runs on."""


@dataclass(frozen=True, slots=True)
class BaseMark:
    """A base model: a name for people, its kind and sizes, its dtype, and SHA-256 of its weights.

    The weights decide, by their values (a model that was saved in half precision is the same in
    float32), and the values of the config that passes compute with. The rest says in what another
    model differs.
    """

    name: str
    signature: ModelSignature
    dtype: str
    weights: str
    values: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, model: nn.Module, name: str) -> BaseMark:
        """Mark a live model; every weight is read once."""
        dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
        signature = ModelSignature.of_model(model)
        return cls(name, signature, dtype, _digest(model), computed_values(model))

    def differences(self, other: BaseMark) -> list[str]:
        """In what another model differs, in words; nothing where it computes the same."""
        if self.weights == other.weights:
            return value_differences(self.values, other.values)
        found = self.signature.differences(other.signature)
        if self.dtype != other.dtype:
            found.append(f"dtype {self.dtype} against {other.dtype}")
        return found or [f"other weights ({self.weights[:12]} against {other.weights[:12]})"]

    def as_json(self) -> dict[str, Any]:
        """Return plain values; `from_json` takes them back."""
        return {
            "name": self.name,
            "signature": self.signature.as_json(),
            "dtype": self.dtype,
            "weights": self.weights,
            "values": dict(self.values),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> BaseMark:
        """Build it from what `as_json` returned; KeyError, TypeError or ValueError for others."""
        name, dtype, weights = (_text(values[key]) for key in ("name", "dtype", "weights"))
        signature = ModelSignature.from_json(values["signature"])
        kept = dict(values.get("values", {}))
        computed = {_text(name): _text(value) for name, value in kept.items()}
        return cls(name, signature, dtype, weights, computed)


@dataclass(frozen=True, slots=True)
class EncoderMark:
    """An encoder: a name for people, its dimension, and what it makes of `PROBE`, rounded.

    The probe decides, within the noise of another machine; the rest says what differs.
    """

    name: str
    dimension: int
    probe: tuple[float, ...]

    @classmethod
    def of(cls, encoder: TextEncoder) -> EncoderMark:
        """Mark an encoder; it blocks while the probe is encoded."""
        return cls.of_vector(encoder.name, [float(x) for x in encoder.encode([PROBE])[0]])

    @classmethod
    def of_vector(cls, name: str, vector: Sequence[float]) -> EncoderMark:
        """Mark an encoder by its embedding of `PROBE`."""
        probe = tuple(round(float(value), _DIGITS) for value in vector)
        return cls(name, len(probe), probe)

    def differences(self, other: EncoderMark) -> list[str]:
        """In what another encoder differs, in words; nothing where it gives the same vectors."""
        if self.dimension != other.dimension:
            return [f"dimension {self.dimension} against {other.dimension}"]
        cosine = _cosine(self.probe, other.probe)
        if cosine >= _SAME:
            return []
        return [f"other vectors for the same sentence (cosine {cosine:.3f})"]

    def as_json(self) -> dict[str, Any]:
        """Return plain values; `from_json` takes them back."""
        return {"name": self.name, "probe": list(self.probe)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EncoderMark:
        """Build it from what `as_json` returned; KeyError, TypeError or ValueError for others."""
        return cls.of_vector(_text(values["name"]), values["probe"])


def _digest(model: nn.Module) -> str:
    """SHA-256 over names, shapes and values of what a model would save, in hex.

    Other buffers are worked out from the config, and some are worked out anew in passes.
    """
    digest = hashlib.sha256()
    saved: dict[str, Any] = model.state_dict()
    for name, tensor in sorted(saved.items()):
        if not isinstance(tensor, torch.Tensor):  # what a layer adds of its own
            continue
        digest.update(f"{name}:{tuple(tensor.shape)};".encode())
        values = tensor.detach().cpu()
        values = values.float() if values.is_floating_point() and values.itemsize < 4 else values
        digest.update(values.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    lengths = math.hypot(*one) * math.hypot(*other)
    product = math.fsum(a * b for a, b in zip(one, other, strict=True))
    return product / lengths if lengths else float(one == other)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value
