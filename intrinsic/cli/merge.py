"""`intrinsic adapters merge NAME=WEIGHT ... --out DIR`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from intrinsic.cli.output import print_json, print_table
from intrinsic.cli.registry_place import adapters_of
from intrinsic.cli.session import load_plugins, loading, open_registry
from intrinsic.config.place import find_place
from intrinsic.errors import MixtureError
from intrinsic.lora import (
    LoraCheckpoint,
    MergedAdapter,
    MergeOptions,
    check_target,
    merge_checkpoints,
    mixed_card,
    modules_of,
    read_checkpoint,
    save_adapter,
)
from intrinsic.mixture import Mixture
from intrinsic.registry import AdapterEntry, AdapterRegistry

if TYPE_CHECKING:
    from intrinsic.config import Settings
    from intrinsic.config.sections import Project


@dataclass(frozen=True, slots=True)
class MergeRequest:
    """What to merge, how, and where to; `mixture` holds texts `NAME=WEIGHT`."""

    mixture: tuple[str, ...]
    out: Path
    method: str
    options: MergeOptions
    force: bool = False


def run_merge(request: MergeRequest, settings: Settings, *, as_json: bool) -> None:
    """Merge, save, and print what was made and what was lost."""
    plugins = load_plugins(settings)
    method = plugins.factory("register_merge_methods", request.method, "merge method")
    registry = _registry(settings.project)
    parts = _parts(request.mixture, registry)
    target = check_target(request.out, replace=request.force)
    card = mixed_card(
        target.name, [(entry.card, weight) for entry, weight in parts], request.method
    )
    terms = [(read_checkpoint(entry.path), weight) for entry, weight in parts]
    with loading("merging", modules_of(terms)) as done:
        merged = merge_checkpoints(
            terms, method, options=request.options, name=request.method, done=done
        )
    saved = save_adapter(merged, target, card=card, replace=request.force)
    fields = _fields(request, parts, merged, saved)
    if as_json:
        print_json(fields)
        return
    print_table(
        card.key, ("field", "value"), [(key, _text(value)) for key, value in fields.items()]
    )


def _registry(project: Project) -> AdapterRegistry:
    where = find_place(project)
    if where is None:
        return open_registry(project)
    return anyio.run(adapters_of, where)


def _parts(texts: Sequence[str], registry: AdapterRegistry) -> list[tuple[AdapterEntry, float]]:
    """The adapters and their weights, by key, so that the order of the arguments is no matter."""
    pairs = [_pair(text) for text in texts]
    mixture = Mixture.of((registry.get_adapter(name).key, weight) for name, weight in pairs)
    if not mixture:
        raise MixtureError(f"{' '.join(texts)} is the base model; give an adapter a weight not 0")
    return [(registry.get_adapter(key), weight) for key, weight in mixture.entries]


def _pair(text: str) -> tuple[str, float]:
    name, _, number = text.rpartition("=")
    try:
        weight = float(number)
    except ValueError:
        name = ""
    if not name:
        raise MixtureError(f"{text!r} is no NAME=WEIGHT; write an adapter so: medical=0.7")
    return name, weight


def _fields(
    request: MergeRequest,
    parts: Sequence[tuple[AdapterEntry, float]],
    merged: MergedAdapter,
    saved: LoraCheckpoint,
) -> dict[str, object]:
    return {
        "path": str(saved.path),
        "mixture": {entry.key: weight for entry, weight in parts},
        "method": request.method,
        "layers": len(merged.factors),
        "ranks": sorted({factors.rank for factors in merged.factors.values()}),
        "dtype": request.options.dtype,
        "bytes": saved.bytes_used,
        "worst_error": merged.worst_error,
        "worst_layer": merged.worst_layer,
        "mean_error": merged.mean_error,
        "digest": saved.digest,
    }


def _text(value: object) -> str:
    if isinstance(value, dict):
        return " + ".join(f"{weight:g} x {key}" for key, weight in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.2e}" if isinstance(value, float) else str(value)
