"""A folder becomes a record: read, checked, measured, and traced to its training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intrinsic.card import AdapterCard
from intrinsic.errors import CheckpointError, ConfigError
from intrinsic.registry.entry import read_entry, with_fields
from intrinsic.registry.inspection import Inspection, inspect
from intrinsic.registry.provenance import Provenance
from intrinsic.registry.signature import ModelSignature

if TYPE_CHECKING:
    from intrinsic.registry.store.records import VersionRecord

OWN_TRAINER = "intrinsic train"
_SIGNATURE = "base_signature"
_CARD = "card_in_files"


@dataclass(frozen=True, slots=True)
class Newcomer:
    """An adapter's folder, and what is said of it; what is None is read from its files.

    `base_model` is a name, or a folder whose `config.json` tells what kind of model it is; where it
    is `only_a_name`, no folder is looked into.
    """

    path: Path
    name: str | None = None
    version: str | None = None
    base_model: str | None = None
    domain: str | None = None
    description: str | None = None
    keywords: Sequence[str] | None = None
    examples: Sequence[str] | None = None
    provenance: Provenance | None = None
    only_a_name: bool = False


def examine(newcomer: Newcomer) -> VersionRecord:
    """Check an adapter's files and return its record; nothing is kept or changed.

    Raises `CheckpointError`, `UnsupportedAdapterError` or `ConfigError`, naming what is wrong.
    """
    from intrinsic.registry.store.records import VersionRecord

    folder = _folder(newcomer.path)
    said = ("name", "version", "domain", "description", "keywords", "examples")
    read = read_entry(folder)
    entry = with_fields(read, {key: getattr(newcomer, key) for key in said})
    found = inspect(folder)
    provenance = newcomer.provenance or Provenance.read(folder)
    base = newcomer.base_model or found.base_model or (provenance.base_model if provenance else "")
    found = replace(found, base_model=base)
    unseen = newcomer.only_a_name and bool(newcomer.base_model)
    signature = None if unseen else signature_of(base)
    return VersionRecord(
        card=entry.card,
        path=folder,
        digest=found.digest,
        bytes=found.bytes,
        base_model=base,
        inspection=found.as_json()
        | ({} if signature is None else {_SIGNATURE: signature.as_json()})
        | kept_card(read.card),
        provenance=provenance,
        trained_here=provenance is not None and provenance.trainer == OWN_TRAINER,
    )


def signature_of(base_model: str) -> ModelSignature | None:
    """What kind of model a folder holds; None where the name is none, or it has no config."""
    try:
        path = Path(base_model).expanduser() / "config.json"
        config = json.loads(path.read_text(encoding="utf-8")) if base_model else None
    except (OSError, ValueError, RuntimeError, RecursionError):
        return None
    return ModelSignature.from_config(config) if isinstance(config, Mapping) else None


def found_in(inspection: Mapping[str, Any]) -> tuple[Inspection, ModelSignature | None]:
    """Take apart what a record's `inspection` keeps. Raises `ConfigError`."""
    values = dict(inspection)
    values.pop(_CARD, None)
    signature = values.pop(_SIGNATURE, None)
    return (
        Inspection.from_json(values),
        None if signature is None else ModelSignature.from_json(signature),
    )


def kept_card(card: AdapterCard) -> dict[str, Any]:
    """What an `inspection` keeps of the card that was read from the files."""
    values = asdict(card).items()
    return {_CARD: {key: value for key, value in values if value not in ("", (), None)}}


def card_in_files(inspection: Mapping[str, Any]) -> AdapterCard | None:
    """The card as the files had it when they were last read; None where that was not kept."""
    values = inspection.get(_CARD)
    if values is None:
        return None
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
    }
    return AdapterCard(**fields)


def _folder(path: Path) -> Path:
    try:
        folder = path.expanduser().resolve()
        if folder.is_dir():
            return folder
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"{str(path)!r} cannot be found: {error}") from None
    what = "is a file" if folder.exists() else "does not exist"
    raise CheckpointError(f"{path} {what}; name the folder that PEFT's save_pretrained wrote")
