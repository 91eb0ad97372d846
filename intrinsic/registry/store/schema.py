"""The tables of the registry's database, the same on SQLite and on PostgreSQL.

Text that is sorted is compared byte by byte on both: SQLite does so anyway, PostgreSQL is told to.
The large columns of `versions` come last, so that SQLite reads the small ones without them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.dialects import sqlite


class UtcTime(TypeDecorator[datetime]):
    """A moment, kept in UTC; SQLite has no time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ANN401
        """With its time zone."""
        if value is None:
            return None
        moment: datetime = value.replace(tzinfo=UTC) if value.tzinfo is None else value
        return moment.astimezone(UTC)


def insert_into(table: Table, dialect: str) -> Any:  # noqa: ANN401  the two have no type in common
    """An insert that says what happens on a conflict; PostgreSQL's dialect takes long to import."""
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)
    return sqlite.insert(table)


METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

_ID = String(32)
_COUNTER = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts INTEGER keys alone
_SORTED = Text().with_variant(Text(collation="C"), "postgresql")
_JSON = JSON(none_as_null=True)


def _version_id(name: str, **options: Any) -> Column[str]:  # noqa: ANN401
    return Column(name, _ID, ForeignKey("versions.id"), **options)


VERSIONS = Table(
    "versions",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("name", _SORTED, nullable=False),
    Column("version", _SORTED, nullable=False),
    Column("version_order", _SORTED, nullable=False),
    Column("domain", _SORTED, nullable=False),  # in lower case; as written in the card
    Column("base_model", _SORTED, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("trained_here", Boolean, nullable=False),
    Column("copied", Boolean, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("deleted_at", UtcTime),  # null: not deleted
    Column("digest", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("card", _JSON, nullable=False),
    Column("provenance", _JSON),
    Column("inspection", _JSON, nullable=False),
    UniqueConstraint("name", "version"),
)

Index(
    "ix_versions_listing",  # all that a list filters and sorts by, so that it reads no rows
    *(VERSIONS.c[name] for name in ("deleted_at", "active", "domain", "base_model")),
    *(VERSIONS.c[name] for name in ("name", "version_order", "version", "trained_here")),
    *(VERSIONS.c[name] for name in ("created_at", "bytes", "id")),
)

HISTORY = Table(
    "history",
    METADATA,
    Column("id", _COUNTER, primary_key=True),
    _version_id("version_id", nullable=False, index=True),
    Column("at", UtcTime, nullable=False),
    Column("event", Text, nullable=False),
    Column("detail", _JSON, nullable=False),
)

USAGE = Table(
    "usage",
    METADATA,
    _version_id("version_id", primary_key=True),
    Column("routed", BigInteger, nullable=False),
    Column("generated", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("first_used", UtcTime),
    Column("last_used", UtcTime),
    Column("confidence_sum", Float(53), nullable=False),
    Column("confidence_count", BigInteger, nullable=False),
    Column("loads", BigInteger, nullable=False),
    Column("load_seconds", Float(53), nullable=False),
)

RATINGS = Table(
    "ratings",
    METADATA,
    Column("id", _COUNTER, primary_key=True),
    _version_id("version_id", index=True),  # null: the base model
    Column("rating", SmallInteger, nullable=False),
    Column("criteria", _JSON, nullable=False),
    Column("tags", _JSON, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("output", Text, nullable=False),
    Column("rater", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    CheckConstraint("rating BETWEEN 1 AND 5", name="rating"),
)

PREFERENCES = Table(
    "preferences",
    METADATA,
    Column("id", _COUNTER, primary_key=True),
    _version_id("a_id", index=True),  # null: the base model
    _version_id("b_id", index=True),  # null: the base model
    Column("outcome", String(3), nullable=False),
    Column("prompt", Text, nullable=False),
    Column("rater", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    CheckConstraint("outcome IN ('a', 'b', 'tie')", name="outcome"),
)
