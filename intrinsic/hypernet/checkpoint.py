"""A hypernetwork as a folder: `config.json` and `model.safetensors`, bound to base and encoder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from intrinsic.errors import AdapterExistsError, ConfigError, HypernetError
from intrinsic.hypernet.architecture import ARCHITECTURES
from intrinsic.hypernet.checkpoint_files import (
    CONFIG,
    FORMAT,
    VERSION,
    WEIGHTS,
    filled,
    read_settings,
    read_tensors,
)
from intrinsic.hypernet.gate import Gate
from intrinsic.hypernet.marks import BaseMark, EncoderMark
from intrinsic.hypernet.network import HyperNetwork
from intrinsic.hypernet.probe import Probe
from intrinsic.hypernet.targets import TargetShape
from intrinsic.lora.save import whole_folder, writing

_DESCRIPTIONS, _DIRECTION = "gate.descriptions", "gate.probe"
_DAMAGED = (LookupError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True, slots=True)
class Saved:
    """A hypernetwork with what it is bound to; `record` is what its maker noted."""

    network: HyperNetwork
    base: BaseMark
    encoder: EncoderMark
    gate: Gate | None = None
    record: Mapping[str, Any] = field(default_factory=dict)


def save(
    network: HyperNetwork,
    folder: str | Path,
    *,
    base: BaseMark,
    encoder: EncoderMark,
    gate: Gate | None = None,
    record: Mapping[str, Any] | None = None,
    replace: bool = False,
    beside: Callable[[Path], None] | None = None,
) -> Path:
    """Write the folder, whole or not at all; the same network gives the same bytes.

    `record` is plain values; `beside` writes more files into the folder that it is given. Raises
    `AdapterExistsError` where something is there already, unless it is a hypernetwork's and to be
    replaced; `AdapterError` where the system lets nobody write; and `HypernetError` for an encoder
    or a gate of another dimension, and for weights that are not finite.
    """
    target = _expanded(folder).absolute()
    _check_parts(network, encoder, gate)
    check_room(target, replace)
    tensors = {
        f"network.{name}": tensor.detach().cpu().contiguous().clone()
        for name, tensor in network.state_dict().items()
    }
    if gate is not None:
        tensors[_DESCRIPTIONS] = gate.descriptions.contiguous()
        if gate.probe is not None:
            tensors[_DIRECTION] = gate.probe.direction.contiguous()
    settings = _settings(network, base, encoder, gate, record or {})
    data = safetensors.torch.save(tensors, metadata={"format": "pt"})
    settings["sha256"] = hashlib.sha256(data).hexdigest()
    text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
    with writing(target), whole_folder(target) as made:
        (made / CONFIG).write_text(text, encoding="utf-8")
        (made / WEIGHTS).write_bytes(data)
        if beside is not None:
            beside(made)
    return target


def load(
    folder: str | Path, *, base: BaseMark | None = None, encoder: EncoderMark | None = None
) -> Saved:
    """Read what `save` wrote, and refuse it for another base model or another encoder.

    Without `base` or `encoder` that one is not compared. Raises `HypernetError` for what is no
    such folder, is damaged, or belongs to others, saying what differs.
    """
    path = _expanded(folder)
    settings = read_settings(path / CONFIG)
    marks = _marks(settings, path)
    try:
        kept = settings["network"]
        targets = [TargetShape(*target) for target in kept["targets"]]
        sizes = kept["embed_dim"], kept["rank"], kept["alpha"]
        architecture, options = kept["architecture"], dict(kept["options"])
        record = dict(settings["record"])
    except _DAMAGED as error:
        raise HypernetError(f"{path / CONFIG} is damaged ({error}); save it again") from None
    _compare(path, marks, base, encoder)
    tensors = read_tensors(path / WEIGHTS, settings.get("sha256"))
    descriptions, direction = tensors.pop(_DESCRIPTIONS, None), tensors.pop(_DIRECTION, None)

    def build() -> HyperNetwork:
        return HyperNetwork(targets, *sizes, architecture=architecture, **options)

    try:
        network = filled(build, tensors, path / WEIGHTS)
    except ConfigError as error:
        own = "" if architecture in ARCHITECTURES else "; import the module of your own one first"
        raise HypernetError(f"{path / CONFIG} cannot be used: {error}{own}") from None
    except (TypeError, RuntimeError, OverflowError) as error:
        why = str(error).split("\n")[0]
        raise HypernetError(f"{path / CONFIG} is damaged ({why}); save it again") from None
    gate = _gate(settings.get("gate"), descriptions, direction, path)
    return Saved(network, *marks, gate=gate, record=record)


def marks_of(folder: str | Path) -> tuple[BaseMark, EncoderMark]:
    """What a saved network is bound to, without its weights; raises as `load` does."""
    path = _expanded(folder)
    return _marks(read_settings(path / CONFIG), path)


def _marks(settings: Mapping[str, Any], path: Path) -> tuple[BaseMark, EncoderMark]:
    try:
        return BaseMark.from_json(settings["base"]), EncoderMark.from_json(settings["encoder"])
    except _DAMAGED as error:
        raise HypernetError(f"{path / CONFIG} is damaged ({error}); save it again") from None


def _expanded(folder: str | Path) -> Path:
    try:
        return Path(folder).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{folder} cannot be found: {error}; name another folder") from None


def _settings(
    network: HyperNetwork,
    base: BaseMark,
    encoder: EncoderMark,
    gate: Gate | None,
    record: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "base": base.as_json(),
        "encoder": encoder.as_json(),
        "network": {
            "targets": [
                [t.name, t.in_features, t.out_features, t.transposed] for t in network.targets
            ],
            "embed_dim": network.embed_dim,
            "rank": network.rank,
            "alpha": network.alpha,
            "architecture": network.architecture,
            "options": network.options,
        },
        "gate": gate and _gate_settings(gate),
        "record": dict(record),
    }


def _gate_settings(gate: Gate) -> dict[str, Any]:
    return {
        "threshold": gate.threshold,
        "max_relative_norm": gate.max_relative_norm,
        "neighbours": gate.neighbours,
        "example_share": gate.example_share,
        "probe": gate.probe and {"offset": gate.probe.offset, "threshold": gate.probe.threshold},
    }


def _check_parts(network: HyperNetwork, encoder: EncoderMark, gate: Gate | None) -> None:
    sizes = {"the encoder": encoder.dimension}
    if gate is not None:
        sizes["the gate"] = gate.descriptions.shape[1]
    for part, size in sizes.items():
        if size != network.embed_dim:
            raise HypernetError(
                f"{part} has vectors of {size}, the hypernetwork takes {network.embed_dim}; "
                "save it with the encoder that it was trained with"
            )
    for name, parameter in network.named_parameters():
        if not torch.isfinite(parameter).all():
            raise HypernetError(f"{name} holds NaN or infinite values and is not saved")


def check_room(target: Path, replace: bool) -> None:
    """Raise `AdapterExistsError` where `save` would; so that it is known before a training."""
    if not target.exists():
        return
    if not replace:
        raise AdapterExistsError(
            f"{target} exists already; name a folder that does not, or replace it (--force)"
        )
    try:
        read_settings(target / CONFIG)
        if not target.is_symlink() and not any(path.is_dir() for path in target.iterdir()):
            return
    except HypernetError:
        pass
    raise AdapterExistsError(
        f"{target} is not a folder of one hypernetwork and is not replaced; remove it yourself "
        "or name another folder"
    )


def _compare(
    path: Path,
    marks: tuple[BaseMark, EncoderMark],
    base: BaseMark | None,
    encoder: EncoderMark | None,
) -> None:
    """Raise `HypernetError` where what is in use is not what the checkpoint was made for."""
    if base is not None and (found := marks[0].differences(base)):
        raise HypernetError(
            f"{path} was trained on the base model {marks[0].name}, not {base.name}: "
            f"{'; '.join(found[:3])}"
        )
    if encoder is not None and (found := marks[1].differences(encoder)):
        raise HypernetError(
            f"{path} was trained with the encoder {marks[1].name}, not {encoder.name}: "
            f"{'; '.join(found[:3])}"
        )


def _gate(
    settings: Any,  # noqa: ANN401 - what a file holds
    descriptions: torch.Tensor | None,
    direction: torch.Tensor | None,
    path: Path,
) -> Gate | None:
    probed = isinstance(settings, dict) and settings.get("probe") is not None
    if (settings is None) != (descriptions is None) or probed != (direction is not None):
        raise HypernetError(f"{path} holds only a part of its gate; save it again")
    if descriptions is None:
        return None
    try:
        numbers = settings.get("probe")
        probe = None if direction is None else Probe(direction, **numbers)
        return Gate(descriptions, **{**settings, "probe": probe})
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise HypernetError(f"{path / CONFIG}: its gate is damaged ({error})") from None
