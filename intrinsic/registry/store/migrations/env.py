"""What Alembic runs to apply the steps: on the connection, in the transaction, that it is given."""

from __future__ import annotations

from alembic import context

from intrinsic.registry.store.migrating import VERSION_TABLE
from intrinsic.registry.store.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
    render_as_batch=True,  # SQLite alters a table only by writing it anew
)
with context.begin_transaction():
    context.run_migrations()
