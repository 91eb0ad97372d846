"""A merged adapter on disk, as an ordinary PEFT checkpoint; all of it, or nothing."""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import safetensors.torch

from intrinsic.card import AdapterCard
from intrinsic.errors import AdapterError, AdapterExistsError, ConfigError
from intrinsic.lora.checkpoint import WEIGHTS_NAME, LoraCheckpoint, read_checkpoint
from intrinsic.lora.config import CONFIG_NAME, LoraConfig
from intrinsic.lora.merged_adapter import MergedAdapter
from intrinsic.lora.mixture_card import CARD_NAME, card_text

_INHERITED = ("task_type", "revision", "auto_mapping")


def save_adapter(
    merged: MergedAdapter,
    folder: str | Path,
    *,
    card: AdapterCard | None = None,
    replace: bool = False,
) -> LoraCheckpoint:
    """Write config, tensors and card, read them back, and give the folder its name at the end.

    Without a card the adapter gets one that says its folder's name alone. Where anything fails,
    what was at `folder` is still there, and nothing of the new. Raises what `check_target` raises.
    """
    target = check_target(folder, replace=replace)
    with writing(target):
        return _save(merged, target, card or AdapterCard(target.name))


def _save(merged: MergedAdapter, target: Path, card: AdapterCard) -> LoraCheckpoint:
    with whole_folder(target) as made:
        _write(merged, made, card)
        read_checkpoint(made)
    return read_checkpoint(target)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder to fill; at the end it takes `target`'s place, after a failure it is gone.

    Ask `check_target` before whether it may.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # One level down, where a scan for adapters does not see it while it is half written.
    room = target.parent / f".writing-{uuid.uuid4().hex}.tmp"
    made = room / target.name
    room.mkdir()
    try:
        made.mkdir()
        yield made
        _put(made, target, room / "former")
    finally:
        shutil.rmtree(room)


def check_target(folder: str | Path, *, replace: bool = False) -> Path:
    """Return the absolute folder that an adapter may be written to.

    Raises `AdapterExistsError` where something is there already, unless it is to be replaced and
    is an adapter's folder: one with a config and without folders inside. Raises `AdapterError`
    where the system lets nobody write, and `ConfigError` for the home of a user who is not there.
    """
    try:
        target = Path(os.path.abspath(Path(folder).expanduser()))
    except RuntimeError as error:
        raise ConfigError(f"{folder} cannot be found: {error}; name another folder") from None
    with writing(target):
        _check_room(target, replace)
    return target


def _check_room(target: Path, replace: bool) -> None:
    if not os.path.lexists(target):
        there = next(parent for parent in target.parents if parent.exists())
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{there} is a file")
        return
    if not replace:
        raise AdapterExistsError(
            f"{target} exists already; name a folder that does not, or replace it (--force)"
        )
    is_adapter = target.is_dir() and not target.is_symlink() and (target / CONFIG_NAME).is_file()
    if not is_adapter or any(path.is_dir() for path in target.iterdir()):
        raise AdapterExistsError(
            f"{target} is not a folder of one adapter and is not replaced; remove it yourself or "
            "name another folder"
        )


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Say of what the system refuses that it was this folder's writing."""
    try:
        yield
    except OSError as error:
        raise AdapterError(
            f"{target} cannot be written: {error.strerror or error}; "
            "name a folder that you may write to and that has room"
        ) from error


def _put(made: Path, target: Path, former: Path) -> None:
    """Give the new folder its name; one that it replaces gets it back where that fails."""
    replaces = target.exists()
    if replaces:
        target.rename(former)
    try:
        made.rename(target)
    except BaseException:
        if replaces:
            former.rename(target)
        raise


def _write(merged: MergedAdapter, folder: Path, card: AdapterCard) -> None:
    tensors = {}
    for module, factors in merged.factors.items():
        tensors[f"base_model.model.{module}.lora_A.weight"] = factors.A
        tensors[f"base_model.model.{module}.lora_B.weight"] = factors.B
    # Not save_file, whose file only its owner may read.
    data = safetensors.torch.save(tensors, metadata={"format": "pt"})
    (folder / WEIGHTS_NAME).write_bytes(data)
    config = json.dumps(_config(merged), indent=2, sort_keys=True)
    (folder / CONFIG_NAME).write_text(config + "\n", encoding="utf-8")
    (folder / CARD_NAME).write_text(card_text(card), encoding="utf-8")


def _config(merged: MergedAdapter) -> dict[str, object]:
    """Settings for PEFT: alpha equals r everywhere, so that every scale is 1."""
    ranks = {module: factors.rank for module, factors in merged.factors.items()}
    r = Counter(ranks.values()).most_common(1)[0][0]
    pattern = _rank_pattern(ranks, r)
    base = next((source.base_model for source in merged.sources if source.base_model), None)
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "r": r,
        "lora_alpha": r,
        "rank_pattern": pattern,
        "alpha_pattern": pattern,
        "target_modules": _target_modules(merged),
        "fan_in_fan_out": any(s.extra.get("fan_in_fan_out") is True for s in merged.sources),
        "bias": "none",
        "inference_mode": True,
        "lora_dropout": 0.0,
        "use_dora": False,
        "use_rslora": False,
    } | {key: _common(merged.sources, key) for key in _INHERITED}


def _rank_pattern(ranks: Mapping[str, int], r: int) -> dict[str, int]:
    """Ranks other than `r`: by the layers' last name where that says it, else by full names.

    PEFT takes the first pattern that a name ends with, so that long names come first.
    """
    by_end: dict[str, set[int]] = defaultdict(set)
    for module, rank in ranks.items():
        by_end[_end(module)].add(rank)
    mixed = [module for module in ranks if len(by_end[_end(module)]) > 1]
    full = {module: ranks[module] for module in sorted(mixed, key=lambda m: (-len(m), m))}
    short = {end: min(found) for end, found in sorted(by_end.items()) if len(found) == 1}
    return full | {end: rank for end, rank in short.items() if rank != r}


def _target_modules(merged: MergedAdapter) -> list[str]:
    """What the sources declared, where that is plain names; else every layer by its full name."""
    sources = merged.sources
    plain = all(
        isinstance(s.target_modules, tuple) and not s.exclude_modules and not s.layers_to_transform
        for s in sources
    )
    if plain:
        names = tuple(sorted({name for source in sources for name in source.target_modules}))
        union = LoraConfig(r=1, alpha=1, target_modules=names)
        if all(union.targets(module) for module in merged.factors):
            return list(names)
    return sorted(merged.factors)


def _common(sources: tuple[LoraConfig, ...], key: str) -> object:
    first = sources[0].extra.get(key)
    return first if all(source.extra.get(key) == first for source in sources) else None


def _end(module: str) -> str:
    return module.rpartition(".")[2]
