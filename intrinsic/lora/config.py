"""`adapter_config.json`: ranks, scales and targets of a LoRA checkpoint, or a refusal in words."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from intrinsic.errors import CheckpointError, UnsupportedAdapterError
from intrinsic.lora.files import read_config_bytes
from intrinsic.lora.patterns import BY_LAYER, BY_NAME, MAX_PATHS, check_pattern
from intrinsic.lora.wording import named, short

CONFIG_NAME = "adapter_config.json"

_LAYER_INDEX = re.compile(r".*?\.[^.]*\.(?P<index>\d+)\.")

_REFUSED_IF_SET = {
    "modules_to_save": "modules_to_save (whole trained modules)",
    "trainable_token_indices": "trainable_token_indices",
    "target_parameters": "target_parameters (LoRA on bare parameters, as in MoE experts)",
    "layer_replication": "layer_replication",
    "loftq_config": "LoftQ (it replaces the base weights)",
    "alora_invocation_tokens": "aLoRA (activated by invocation tokens)",
    "use_qalora": "QALoRA",
    "use_bdlora": "block-diagonal LoRA",
    "arrow_config": "Arrow routing inside PEFT",
    "kasa_config": "KaSA",
    "monteclora_config": "MonteCLoRA",
    "velora_config": "VeLoRA",
    "megatron_config": "Megatron layers",
    "ensure_weight_tying": "ensure_weight_tying (one LoRA for tied layers)",
}
"""Settings of PEFT that change more than `W + s B A`, and what to call them."""

_FLAGS = ("use_rslora", "use_dora", "lora_bias")
"""Settings of PEFT that are served."""

_ALL_LINEAR = "all-linear"
"""PEFT's word for every linear layer of the model, which a file alone does not tell."""

_MAX_RANK = 2**20
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Values of `init_lora_weights` whose adapters only make sense on a base that was changed too."""


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """Ranks, scales and targets, per module, by PEFT's rules.

    The scale of a module is `alpha / r`, or `alpha / sqrt(r)` with rsLoRA (Kalajdzievski 2023),
    with r and alpha taken from the patterns where one matches the module's name.
    """

    r: int
    alpha: float
    use_rslora: bool = False
    use_dora: bool = False
    lora_bias: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    target_modules: str | tuple[str, ...] = ()
    exclude_modules: str | tuple[str, ...] = ()
    layers_to_transform: tuple[int, ...] = ()
    layers_pattern: tuple[str, ...] = ()
    base_model: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def rank_of(self, module: str) -> int:
        """Declared rank of the module of that name."""
        return int(_by_pattern(self.rank_pattern, module, self.r))

    def scale_of(self, module: str) -> float:
        """Scale s of the module of that name."""
        alpha = float(_by_pattern(self.alpha_pattern, module, self.alpha))
        rank = self.rank_of(module)
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank

    def targets(self, module: str) -> bool:
        """Whether the config declares that it changes the module of that name."""
        if _names(self.exclude_modules, module):
            return False
        if isinstance(self.target_modules, str):
            return _names(self.target_modules, module)
        if module in self.target_modules:
            return True
        return _names(self.target_modules, module) and self._in_layers(module)

    def may_change(self, module: str) -> bool:
        """Whether factors of it are no surprise: it is a target, or PEFT alone knows which are."""
        return self.target_modules in ((), _ALL_LINEAR) or self.targets(module)

    def _in_layers(self, module: str) -> bool:
        if not self.layers_to_transform:
            return True
        for pattern in self.layers_pattern:
            found = re.match(BY_LAYER.format(pattern), module)
            if found:
                index = found["index"]  # None where an alternative of the pattern matched alone
                return index is not None and int(index) in self.layers_to_transform
        found = None if self.layers_pattern else _LAYER_INDEX.match(module)
        return found is not None and int(found["index"]) in self.layers_to_transform


def read_config(folder: Path) -> LoraConfig:
    """Read and check `adapter_config.json`.

    Raises `CheckpointError` where the file is missing or lies, `UnsupportedAdapterError` where
    it asks for something that `W + s B A` cannot express.
    """
    path = folder / CONFIG_NAME
    return parse_config(read_config_bytes(path), path)


def parse_config(data: bytes, path: Path) -> LoraConfig:
    """Check the bytes of a config, which were read from `path`; raises as `read_config` does."""
    try:
        raw = _decoded(data, path)
        _refuse_special_kinds(raw, path)
        return _parse(raw, path)
    except RecursionError:
        raise CheckpointError(f"{path} is nested too deeply to be read") from None


def _decoded(data: bytes, path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(data.decode("utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} holds {type(raw).__name__}, not an object of settings")
    return raw


def _refuse_special_kinds(raw: dict[str, Any], path: Path) -> None:
    kind = raw.get("peft_type", "LORA")
    if kind != "LORA":
        raise UnsupportedAdapterError(f"{path}: peft_type is {short(kind)}; only LORA can be mixed")
    for key, words in _REFUSED_IF_SET.items():
        if raw.get(key):
            raise UnsupportedAdapterError(f"{path}: {key} is set: {words} is not supported")
    if raw.get("bias", "none") != "none":
        raise UnsupportedAdapterError(
            f"{path}: bias is {short(raw['bias'])}: trained biases are not supported; "
            "train with 'none'"
        )
    init = raw.get("init_lora_weights")
    if isinstance(init, str) and init.lower().startswith(_CHANGES_BASE):
        raise UnsupportedAdapterError(
            f"{path}: init_lora_weights is {short(init)}, which changed the base weights in "
            "training; convert the adapter with PEFT's path_initial_model_for_weight_conversion"
        )
    unknown = [key for key, value in raw.items() if key.startswith("use_") and value]
    if extra := [key for key in unknown if key not in _FLAGS]:
        raise UnsupportedAdapterError(f"{path}: {extra[0][:80]} is set, which is not supported")


def _parse(raw: dict[str, Any], path: Path) -> LoraConfig:
    rank_pattern = _pattern(raw, "rank_pattern", path)
    for key, rank in [("r", raw.get("r")), *rank_pattern.items()]:
        if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= _MAX_RANK:
            raise CheckpointError(
                f"{path}: rank of {named(key)} is {short(rank)}; it must be 1 to {_MAX_RANK}"
            )
    alpha_pattern = _pattern(raw, "alpha_pattern", path)
    for key, alpha in [("lora_alpha", raw.get("lora_alpha")), *alpha_pattern.items()]:
        if not _is_finite(alpha):
            raise CheckpointError(
                f"{path}: alpha of {named(key)} is {short(alpha)}; it must be a finite number"
            )
    flags = {key: raw.get(key) or False for key in _FLAGS}
    for key, flag in flags.items():
        if not isinstance(flag, bool):
            raise CheckpointError(f"{path}: {key} is {short(flag)}; it must be a boolean")
    if flags["use_dora"] and flags["lora_bias"]:
        raise UnsupportedAdapterError(f"{path}: use_dora and lora_bias are both set; PEFT has none")
    known = {*_REFUSED_IF_SET, *LoraConfig.__dataclass_fields__, "lora_alpha", "peft_type"}
    return LoraConfig(
        r=raw["r"],
        alpha=float(raw["lora_alpha"]),
        **flags,
        rank_pattern=rank_pattern,
        alpha_pattern=alpha_pattern,
        target_modules=_modules(raw, "target_modules", path),
        exclude_modules=_modules(raw, "exclude_modules", path),
        layers_to_transform=_layers(raw.get("layers_to_transform"), path),
        layers_pattern=_layer_names(raw.get("layers_pattern"), path),
        base_model=str(raw.get("base_model_name_or_path") or ""),
        extra={key: value for key, value in raw.items() if key not in known},
    )


def _pattern(raw: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    value = raw.get(key) or {}
    if not isinstance(value, dict):
        raise CheckpointError(
            f"{path}: {key} is {short(value)}; it must map module names to numbers"
        )
    if sum(check_pattern(name, BY_NAME, f"{path}: {key}") for name in value) > MAX_PATHS >> 2:
        raise CheckpointError(
            f"{path}: {key} has {len(value)} patterns, which is too many to match"
        )
    return value


def _modules(raw: dict[str, Any], key: str, path: Path) -> str | tuple[str, ...]:
    value = raw.get(key) or ()
    if isinstance(value, str):
        check_pattern(value, "{}", f"{path}: {key}")
        return value
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise CheckpointError(
            f"{path}: {key} is {short(value)}; it must be a string or a list of strings"
        )
    return tuple(value)


def _layers(value: object, path: Path) -> tuple[int, ...]:
    items = [value] if isinstance(value, int) else value or []
    if not isinstance(items, list) or not all(isinstance(item, int) for item in items):
        raise CheckpointError(
            f"{path}: layers_to_transform is {short(value)}; it must be layer numbers"
        )
    return tuple(items)


def _layer_names(value: object, path: Path) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) and value else value or []
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise CheckpointError(
            f"{path}: layers_pattern is {short(value)}; it must be a string or a list of strings"
        )
    for item in items:
        check_pattern(item, BY_LAYER, f"{path}: layers_pattern")
    return tuple(items)


def _is_finite(value: object) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:
        return False


@lru_cache(maxsize=2**14)
def _by_name(pattern: str) -> re.Pattern[str]:
    return re.compile(BY_NAME.format(pattern))


def _by_pattern(patterns: Mapping[str, Any], module: str, default: float) -> float:
    for pattern, value in patterns.items():
        if _by_name(pattern).match(module):
            return float(value)
    return default


def _names(names: str | tuple[str, ...], module: str) -> bool:
    if isinstance(names, str):
        return bool(names) and re.fullmatch(names, module) is not None
    return f".{module}".endswith(_ends(names))


@lru_cache(maxsize=256)
def _ends(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f".{name}" for name in names)
