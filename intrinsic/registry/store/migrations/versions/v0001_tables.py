"""The first tables: versions, history, usage, ratings, preferences."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

_ID = sa.String(32)
_COUNTER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_SORTED = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make them."""
    _make_versions()
    _make_history_and_usage()
    _make_feedback()


def _make_versions() -> None:
    op.create_table(
        "versions",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", _SORTED, nullable=False),
        sa.Column("version", _SORTED, nullable=False),
        sa.Column("version_order", _SORTED, nullable=False),
        sa.Column("domain", _SORTED, nullable=False),
        sa.Column("base_model", _SORTED, nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("trained_here", sa.Boolean(), nullable=False),
        sa.Column("copied", sa.Boolean(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("deleted_at", _TIME),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("card", sa.JSON(), nullable=False),
        sa.Column("provenance", sa.JSON()),
        sa.Column("inspection", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_versions"),
        sa.UniqueConstraint("name", "version", name="uq_versions_name_version"),
    )
    columns = "deleted_at active domain base_model name version_order version trained_here"
    op.create_index(
        "ix_versions_listing", "versions", [*columns.split(), "created_at", "bytes", "id"]
    )


def _make_history_and_usage() -> None:
    op.create_table(
        "history",
        sa.Column("id", _COUNTER, nullable=False),
        sa.Column("version_id", _ID, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_history"),
        _reference("history", "version_id"),
    )
    op.create_index("ix_history_version_id", "history", ["version_id"])
    op.create_table(
        "usage",
        sa.Column("version_id", _ID, nullable=False),
        sa.Column("routed", sa.BigInteger(), nullable=False),
        sa.Column("generated", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("first_used", _TIME),
        sa.Column("last_used", _TIME),
        sa.Column("confidence_sum", sa.Float(53), nullable=False),
        sa.Column("confidence_count", sa.BigInteger(), nullable=False),
        sa.Column("loads", sa.BigInteger(), nullable=False),
        sa.Column("load_seconds", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("version_id", name="pk_usage"),
        _reference("usage", "version_id"),
    )


def _make_feedback() -> None:
    op.create_table(
        "ratings",
        sa.Column("id", _COUNTER, nullable=False),
        sa.Column("version_id", _ID),
        sa.Column("rating", sa.SmallInteger(), nullable=False),
        sa.Column("criteria", sa.JSON(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("output", sa.Text(), nullable=False),
        sa.Column("rater", sa.Text(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.CheckConstraint("rating BETWEEN 1 AND 5", name=op.f("ck_ratings_rating")),
        sa.PrimaryKeyConstraint("id", name="pk_ratings"),
        _reference("ratings", "version_id"),
    )
    op.create_index("ix_ratings_version_id", "ratings", ["version_id"])
    op.create_table(
        "preferences",
        sa.Column("id", _COUNTER, nullable=False),
        sa.Column("a_id", _ID),
        sa.Column("b_id", _ID),
        sa.Column("outcome", sa.String(3), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("rater", sa.Text(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.CheckConstraint("outcome IN ('a', 'b', 'tie')", name=op.f("ck_preferences_outcome")),
        sa.PrimaryKeyConstraint("id", name="pk_preferences"),
        _reference("preferences", "a_id"),
        _reference("preferences", "b_id"),
    )
    op.create_index("ix_preferences_a_id", "preferences", ["a_id"])
    op.create_index("ix_preferences_b_id", "preferences", ["b_id"])


def _reference(table: str, column: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], ["versions.id"], name=f"fk_{table}_{column}")
