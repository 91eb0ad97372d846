"""What kind of model a model is: its architecture and its sizes, whatever it is called."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from intrinsic.errors import ConfigError
from intrinsic.registry.inspection import read_shapes

if TYPE_CHECKING:
    from torch import nn

_SIZES: Mapping[str, tuple[str, ...]] = {
    "hidden_size": ("hidden_size", "n_embd", "d_model", "n_embed", "dim", "model_dim"),
    "intermediate_size": ("intermediate_size", "n_inner", "ffn_dim", "d_ff", "ffn_hidden_size"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "heads": ("num_attention_heads", "n_head", "num_heads", "n_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "multi_query_group_num"),
    "head_dim": ("head_dim", "kv_channels", "d_kv"),
    "vocabulary": ("vocab_size", "padded_vocab_size"),
}
"""The names that the configs of transformers give to the same size."""

_CORE = ("model_type", "hidden_size", "layers", "vocabulary")
"""Two models that agree in these, and differ in nothing, are of the same kind."""


@dataclass(frozen=True, slots=True)
class ModelSignature:
    """Architecture and sizes; "" or None is what is not known.

    `modules` maps each layer's path to its `(in, out)`, where the live model was looked at. Weights
    are not part of it: two fine-tunes of one base have one signature.
    """

    model_type: str = ""
    architectures: tuple[str, ...] = ()
    hidden_size: int | None = None
    intermediate_size: int | None = None
    layers: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    vocabulary: int | None = None
    modules: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], modules: Mapping[str, tuple[int, int]] | None = None
    ) -> ModelSignature:
        """Read a `config.json` of transformers, or what `PretrainedConfig.to_dict()` returns.

        Of a model of several parts it is the sizes of the text part.
        """
        text = config.get("text_config")
        parts = [config, text] if isinstance(text, Mapping) else [config]
        sizes = {size: _size(parts, names) for size, names in _SIZES.items()}
        architectures = config.get("architectures")
        named = architectures if isinstance(architectures, list | tuple) else ()
        return cls(
            model_type=str(config.get("model_type") or ""),
            architectures=tuple(str(name) for name in named),
            modules=dict(modules or {}),
            **sizes,
        )

    @classmethod
    def of_model(cls, model: nn.Module) -> ModelSignature:
        """Read a live model's config and the shapes of its layers; no tensor is touched.

        A model that PEFT has wrapped has the signature of its base.
        """
        base: Any = model
        if hasattr(base, "get_base_model"):
            base = base.get_base_model()
        config: Any = getattr(base, "config", None)
        values = config.to_dict() if hasattr(config, "to_dict") else config
        found = cls.from_config(values if isinstance(values, Mapping) else {}, modules_of(base))
        if found.architectures:
            return found
        # transformers writes them into a config when it is saved.
        return replace(found, architectures=(type(base).__name__,))

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of all but `modules`; "what is not known" counts as a value."""
        values = {key: value for key, value in self.as_json().items() if key != "modules"}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def differences(self, other: ModelSignature) -> list[str]:
        """In what two models are known to differ, in words: `hidden_size 32 against 64`."""
        found = []
        for one in fields(self):
            mine, theirs = getattr(self, one.name), getattr(other, one.name)
            if one.name == "modules" or mine in (None, "", ()) or theirs in (None, "", ()):
                continue
            if mine != theirs:
                found.append(f"{one.name} {_shown(mine)} against {_shown(theirs)}")
        if self.modules and other.modules and self.modules != other.modules:
            unequal = set(self.modules.items()) ^ set(other.modules.items())
            found.append(f"another layer {min(name for name, _ in unequal)}")
        return found

    def is_same_kind(self, other: ModelSignature) -> bool | None:
        """Whether architecture and sizes agree; None where too little is known to say."""
        if self.differences(other):
            return False
        known = all(getattr(one, name) for one in (self, other) for name in _CORE)
        return True if known or (self.modules and other.modules) else None

    def as_json(self) -> dict[str, Any]:
        """Return plain values; `from_json` takes them back."""
        lists = {"architectures": list(self.architectures)}
        return asdict(self) | lists | {"modules": {k: list(v) for k, v in self.modules.items()}}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelSignature:
        """Build it from what `as_json` returned. Raises `ConfigError` for anything else."""
        try:
            return cls(
                **dict(values)
                | {
                    "architectures": tuple(values["architectures"]),
                    "modules": read_shapes(values["modules"]),
                }
            )
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise ConfigError(
                f"{values!r:.80} is no signature of a model ({error}); make one of its config"
            ) from None


def modules_of(model: nn.Module) -> dict[str, tuple[int, int]]:
    """`(in, out)` of every linear layer, Conv1D and embedding, by its path in the base model."""
    found = {}
    for name, layer in model.named_modules():
        shape = None if ".base_layer" in name or ".lora_" in name else _shape(layer)
        if shape is not None:
            found[name] = shape
    return found


def _shape(layer: nn.Module) -> tuple[int, int] | None:
    """Asked of the attributes, which also layers have whose weights are packed or quantised."""
    for into, out in (
        ("in_features", "out_features"),
        ("nx", "nf"),
        ("num_embeddings", "embedding_dim"),
    ):
        sizes = getattr(layer, into, None), getattr(layer, out, None)
        if isinstance(sizes[0], int) and isinstance(sizes[1], int):
            return sizes[0], sizes[1]
    return None


def _size(parts: list[Mapping[str, Any]], names: tuple[str, ...]) -> int | None:
    for part in parts:
        for name in names:
            value = part.get(name)
            if type(value) is int and value > 0:
                return value
    return None


def _shown(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)
