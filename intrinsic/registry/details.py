"""Everything that is known of one version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.comparison import VersionSummary, summarise
from intrinsic.registry.inspection import Inspection
from intrinsic.registry.registering import found_in
from intrinsic.registry.signature import ModelSignature
from intrinsic.registry.store.records import VersionRecord
from intrinsic.registry.store.usage_sums import Usage


@dataclass(frozen=True, slots=True)
class Details:
    """A version, what its files hold, how it was made, what it was used for and what people say.

    `base` is what its base model was found to be, None where that was not to be seen. `loaded` is
    whether it is on the device, None in a process that runs no model.
    """

    record: VersionRecord
    inspection: Inspection
    base: ModelSignature | None
    usage: Usage
    feedback: VersionSummary
    loaded: bool | None

    def as_json(self) -> dict[str, Any]:
        """Return plain values; `loaded` is left out where it is not known."""
        found = self.inspection
        provenance = self.record.provenance
        feedback = self.feedback.as_json()
        del feedback["version"]
        return (
            fields_of(self.record)
            | ({} if self.loaded is None else {"loaded": self.loaded})
            | {
                "rank": list(found.ranks),
                "layers": len(found.modules),
                "kinds": list(found.kinds),
                "dtype": found.dtype,
                "base_revision": found.base_revision,
                "base_signature": None if self.base is None else _said(self.base.as_json()),
                "provenance": None if provenance is None else provenance.as_json(),
                "usage": _usage(self.usage),
                "feedback": feedback,
            }
        )


async def details_of(catalog: AdapterCatalog, key: str, *, live: bool = True) -> Details:
    """Return the details of `name@version`, or of a name's active version, else the newest.

    `live` says whether the catalog's live view is that of a running model. Raises
    `AdapterNotFoundError`, which says so where it was deleted.
    """
    record = await catalog.get(key)
    usage = await catalog.usage.usage_of([record.id])
    ratings = await catalog.feedback.ratings_of([record.id])
    votes = await catalog.feedback.votes_of(record.id)
    inspection, base = found_in(record.inspection)
    return Details(
        record,
        inspection,
        base,
        usage[record.id],
        summarise(record.id, ratings[record.id], votes),
        record.key in catalog.live.loaded_adapters if live else None,
    )


def fields_of(record: VersionRecord) -> dict[str, Any]:
    """A version as plain values: its card, its files, and where it stands."""
    return asdict(record.card) | {
        "base_model": record.base_model,
        "path": str(record.path),
        "bytes": record.bytes,
        "id": record.id,
        "digest": record.digest,
        "active": record.active,
        "copied": record.copied,
        "trained_here": record.trained_here,
        "registered_at": iso(record.created_at),
        "deleted_at": iso(record.deleted_at),
    }


def iso(moment: datetime | None) -> str | None:
    """A moment in UTC to the second, as ISO 8601 writes it."""
    return None if moment is None else moment.isoformat(timespec="seconds")


def _usage(usage: Usage) -> dict[str, Any]:
    times = {"first_used": iso(usage.first_used), "last_used": iso(usage.last_used)}
    return asdict(usage) | times | {"mean_load_seconds": usage.mean_load_seconds}


def _said(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value not in (None, "", [], {})}
