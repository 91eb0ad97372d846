"""Adapters as clients see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel

from intrinsic.card import AdapterCard
from intrinsic.registry import AdapterEntry
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.details import iso
from intrinsic.registry.store.records import VersionRecord
from intrinsic.server.envelope import ApiError
from intrinsic.server.scrub import Scrubber
from intrinsic.server.service import Service


class Adapter(BaseModel):
    """A version of an adapter: its card, its files, and where it stands.

    `loaded` is whether it is on the device; `path` is within the folder of adapters. What only a
    registry knows is null without one.
    """

    key: str
    name: str
    version: str
    domain: str
    description: str
    keywords: list[str]
    examples: list[str]
    negatives: list[str]
    must: list[str]
    never: list[str]
    group: str
    threshold: float | None
    base_model: str
    path: str
    active: bool
    loaded: bool
    id: str | None = None
    bytes: int | None = None
    digest: str | None = None
    copied: bool | None = None
    trained_here: bool | None = None
    registered_at: str | None = None
    deleted_at: str | None = None


class AdapterPage(BaseModel):
    """A page of adapters, and how many there are on all pages."""

    object: Literal["list"] = "list"
    data: list[Adapter]
    total: int
    offset: int
    limit: int


class AdapterDetails(Adapter):
    """Everything that is known of a version.

    `files` is what its checkpoint holds; `provenance`, how it was made, is for admin keys.
    """

    files: dict[str, Any] | None = None
    provenance: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    feedback: dict[str, Any] | None = None


class Change(BaseModel):
    """What happened to a version, and when."""

    at: str
    name: str
    version: str
    event: str
    detail: dict[str, Any]


class History(BaseModel):
    """What happened, oldest first."""

    data: list[Change]


class Statistics(BaseModel):
    """What a version was used for, what people say of it, and what it takes in memory (bytes)."""

    key: str
    usage: dict[str, Any] | None = None
    feedback: dict[str, Any] | None = None
    device_bytes: int
    host_bytes: int


class Activated(BaseModel):
    """Where the weights are now: on the "device", in the "host" memory, or neither and `why`."""

    activated: str
    deactivated: list[str]
    near: Literal["device", "host", ""]
    why: str


class Deactivated(BaseModel):
    """The versions that routing may not choose any more."""

    deactivated: list[str]


class Renamed(BaseModel):
    """The versions under their new name."""

    renamed: list[str]


class Deleted(BaseModel):
    """The version that is unusable now; its files stay."""

    deleted: str


class Rated(BaseModel):
    """A rating that was kept."""

    adapter: str
    rating: int
    id: int


class Preferred(BaseModel):
    """A preference that was kept."""

    a: str
    b: str
    outcome: Literal["a", "b", "tie"]
    id: int


class ComparisonOut(BaseModel):
    """The feedback on versions side by side, and which differences are significant."""

    versions: list[dict[str, Any]]
    differences: list[dict[str, Any]]
    comparisons: int
    sentences: list[str]


def catalog_of(service: Service) -> AdapterCatalog:
    """The registry's catalog. Raises a 409 where the server has only a folder of adapters."""
    if service.system.catalog is None:
        raise ApiError(
            409,
            "this server has a folder of adapters and no registry, which this needs; start it "
            "with --registry",
        )
    return service.system.catalog


def of_record(service: Service, record: VersionRecord) -> dict[str, Any]:
    """The fields of an `Adapter` that a registry keeps."""
    return _of_card(record.card) | {
        "base_model": service.scrub(record.base_model),
        "path": service.adapters.folders.shown(record.path),
        "active": record.active,
        "loaded": record.key in service.system.registry.loaded_adapters,
        "id": record.id,
        "bytes": record.bytes,
        "digest": record.digest,
        "copied": record.copied,
        "trained_here": record.trained_here,
        "registered_at": iso(record.created_at),
        "deleted_at": iso(record.deleted_at),
    }


def of_entry(service: Service, entry: AdapterEntry) -> dict[str, Any]:
    """The fields of an `Adapter` that lies in a folder."""
    registry = service.system.registry
    return _of_card(entry.card) | {
        "base_model": service.scrub(entry.base_model),
        "path": service.adapters.folders.shown(entry.path),
        "active": registry.is_active(entry.key),
        "loaded": entry.key in registry.loaded_adapters,
    }


def scrubbed(values: Mapping[str, Any], scrub: Scrubber) -> dict[str, Any]:
    """Plain values without paths of this machine, however deep."""
    return {key: _scrubbed(value, scrub) for key, value in values.items()}


def _scrubbed(value: Any, scrub: Scrubber) -> Any:  # noqa: ANN401
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, Mapping):
        return scrubbed(value, scrub)
    if isinstance(value, list | tuple):
        return [_scrubbed(one, scrub) for one in value]
    return value


def _of_card(card: AdapterCard) -> dict[str, Any]:
    values = asdict(card).items()
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in values}
    return plain | {"key": card.key}
