"""Record usage by owner, key and day, the size of stored objects, and quotas of keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the tables and add the columns. Jobs from before have used nothing and belong to no key."""
    op.create_table(
        "usage",
        sa.Column("owner", sa.String(length=80), nullable=False),
        sa.Column("key_id", sa.String(length=40), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("evaluations", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("images", sa.BigInteger(), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "key_id", "day"),
    )
    op.create_index("usage_day", "usage", ["day"], unique=False)
    op.create_table(
        "stored_objects",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("resource_id", sa.String(length=40), nullable=False),
        sa.Column("owner", sa.String(length=80), nullable=False),
        sa.Column("key_id", sa.String(length=40), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index("stored_objects_owner", "stored_objects", ["owner", "key_id"], unique=False)
    op.create_index("stored_objects_resource", "stored_objects", ["resource_id"], unique=False)
    op.add_column("jobs", sa.Column("key_id", sa.String(length=40), nullable=False, server_default=""))
    for name, kind in (
        ("estimated_evaluations", sa.BigInteger()),
        ("estimated_images", sa.Integer()),
        ("used_evaluations", sa.BigInteger()),
        ("used_seconds", sa.Double()),
        ("used_images", sa.Integer()),
    ):
        op.add_column("jobs", sa.Column(name, kind, nullable=False, server_default="0"))
    op.add_column("keys", sa.Column("max_evaluations_per_day", sa.BigInteger(), nullable=True))
    op.add_column("keys", sa.Column("max_seconds_per_day", sa.Double(), nullable=True))
    op.add_column("keys", sa.Column("max_images_per_day", sa.BigInteger(), nullable=True))
    op.add_column("keys", sa.Column("max_stored_mb", sa.Double(), nullable=True))
