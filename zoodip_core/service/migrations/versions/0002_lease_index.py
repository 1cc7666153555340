"""The index of leases without the status, so that no query by status can take it for the queue's."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the index anew."""
    op.drop_index("jobs_lease", "jobs")
    op.create_index("jobs_lease", "jobs", ["lease_expires_at"], unique=False)
