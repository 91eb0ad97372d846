"""One version of an adapter, as the database keeps it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import Row, Text, cast

from intrinsic.card import CARD_FIELDS, AdapterCard
from intrinsic.errors import RegistryError
from intrinsic.registry.provenance import Provenance
from intrinsic.registry.store.numbering import version_order
from intrinsic.registry.store.schema import VERSIONS

RECORD = tuple(
    cast(column, Text).label(column.name) if column.name == "inspection" else column
    for column in VERSIONS.c
)
"""The columns that `record_of` wants; the inspection, which few look at, as text."""


_CARD_FIELDS = frozenset(CARD_FIELDS)


def now() -> datetime:
    """The moment, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRecord:
    """Everything that is kept of one version; `inspection` is what its checkpoint was found to be.

    `path` is the folder of its files, and `copied` whether the registry put them there itself.
    `deleted_at` is None unless it is deleted, which is for ever.
    """

    id: str = field(default_factory=lambda: uuid4().hex)
    card: AdapterCard
    path: Path
    digest: str
    bytes: int
    base_model: str = ""
    inspection: Mapping[str, Any] = field(default_factory=dict)
    provenance: Provenance | None = None
    copied: bool = False
    trained_here: bool = False
    active: bool = False
    created_at: datetime = field(default_factory=now)
    deleted_at: datetime | None = None

    def __hash__(self) -> int:
        """Of the id alone."""
        return hash(self.id)

    @property
    def name(self) -> str:
        """The adapter's name; its versions share it."""
        return self.card.name

    @property
    def version(self) -> str:
        """The version's own name."""
        return self.card.version

    @property
    def key(self) -> str:
        """`name@version`, which names exactly this one."""
        return self.card.key

    @property
    def is_deleted(self) -> bool:
        """Whether it can be used no more."""
        return self.deleted_at is not None


@dataclass(frozen=True, slots=True)
class LiveVersion:
    """What routing and loading need of a version that is not deleted; quick to read in bulk."""

    id: str
    card: AdapterCard
    path: Path
    base_model: str
    digest: str
    bytes: int
    active: bool

    @property
    def key(self) -> str:
        """`name@version`, which names exactly this one."""
        return self.card.key


def values_of(record: VersionRecord) -> dict[str, Any]:
    """The row of a record, by the names of its columns."""
    return card_values(record.card) | {
        "id": record.id,
        "path": str(record.path),
        "copied": record.copied,
        "digest": record.digest,
        "bytes": record.bytes,
        "base_model": record.base_model,
        "inspection": dict(record.inspection),
        "provenance": None if record.provenance is None else record.provenance.as_json(),
        "trained_here": record.trained_here,
        "active": record.active,
        "created_at": record.created_at,
        "deleted_at": record.deleted_at,
    }


def card_values(card: AdapterCard) -> dict[str, Any]:
    """The columns that a card decides."""
    return {
        "name": card.name,
        "version": card.version,
        "version_order": version_order(card.version),
        "domain": card.domain.lower(),
        "card": {
            key: value for key in CARD_FIELDS if (value := getattr(card, key)) not in (None, "", ())
        },
    }


def card_of(values: Mapping[str, Any]) -> AdapterCard:
    """The card of a row; raise `RegistryError` for one that this library does not understand."""
    if unknown := sorted(values.keys() - _CARD_FIELDS):
        raise RegistryError(
            f"the card of {values.get('name')!r:.80} in the registry has the unknown fields "
            f"{unknown}, of a newer intrinsic; update it with 'pip install -U intrinsic-lora'"
        )
    return AdapterCard(**values)


def record_of(row: Row[Any]) -> VersionRecord:
    """The record of a row of the columns `RECORD`."""
    return VersionRecord(
        id=row.id,
        card=card_of(row.card),
        path=Path(row.path),
        digest=row.digest,
        bytes=row.bytes,
        base_model=row.base_model,
        inspection=_Decoded(row.inspection),
        provenance=None if row.provenance is None else Provenance.from_json(row.provenance),
        copied=row.copied,
        trained_here=row.trained_here,
        active=row.active,
        created_at=row.created_at,
        deleted_at=row.deleted_at,
    )


class _Decoded(Mapping[str, Any]):
    """A JSON object that is decoded when it is first looked at."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._values: dict[str, Any] | None = None

    def _all(self) -> dict[str, Any]:
        if self._values is None:
            self._values = json.loads(self._text)
        return self._values

    def __getitem__(self, key: str) -> Any:  # noqa: ANN401
        return self._all()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        return repr(self._all())
