"""Drop the status from the lease index, so that the planner cannot choose it for queries of the queue."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Recreate the index."""
    op.drop_index("jobs_lease", "jobs")
    op.create_index("jobs_lease", "jobs", ["lease_expires_at"], unique=False)
