"""Alembic environment: run the migrations on the connection of `Database.migrate`."""

from __future__ import annotations

from alembic import context

from zoodip_core.service.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite cannot alter most columns, so Alembic copies the table
)
with context.begin_transaction():
    context.run_migrations()
