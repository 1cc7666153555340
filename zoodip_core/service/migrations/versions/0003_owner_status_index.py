"""Index jobs by owner and status, so that a filtered list does not read all jobs of its owner."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the index."""
    op.create_index("jobs_owner_status", "jobs", ["owner", "kind", "status", "id"], unique=False)
